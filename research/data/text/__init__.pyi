from .packing import pack as pack, pack_pairs as pack_pairs
from .tokenizers import (
    BPETokenizer as BPETokenizer,
    ByteTokenizer as ByteTokenizer,
    CharTokenizer as CharTokenizer,
    Tokenizer as Tokenizer,
)

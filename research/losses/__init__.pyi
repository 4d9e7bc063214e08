from .ctc import Decoded as Decoded, ctc_loss as ctc_loss
from .cross_entropy import TokenLosses as TokenLosses, token_losses as token_losses

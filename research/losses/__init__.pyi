from .ctc import Decoded as Decoded, ctc_loss as ctc_loss

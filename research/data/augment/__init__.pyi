from .augmentation import (
    Augmentation as Augmentation,
    BatchAugmentation as BatchAugmentation,
    HorizontalFlip as HorizontalFlip,
    Noise as Noise,
    OneOf as OneOf,
    RandomCrop as RandomCrop,
    augment as augment,
)
from .boxes import (
    Boxed as Boxed,
    FlipBoxes as FlipBoxes,
    MixupBoxes as MixupBoxes,
    Mosaic as Mosaic,
    PlaceBoxes as PlaceBoxes,
)
from .color_jitter import ColorJitter as ColorJitter
from .erasing import Cutout as Cutout, RandomErasing as RandomErasing
from .mixing import CutMix as CutMix, Mixing as Mixing, Mixup as Mixup
from .randaugment import RandAugment as RandAugment
from .resized_crop import RandomResizedCrop as RandomResizedCrop
from .spec_augment import SpecAugment as SpecAugment

from .generation import (
    Beam as Beam,
    Generated as Generated,
    Generation as Generation,
    Greedy as Greedy,
    Sample as Sample,
    batch_prompts as batch_prompts,
    generate as generate,
)

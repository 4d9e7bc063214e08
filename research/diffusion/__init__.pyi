from .guidance import guided as guided
from .process import Diffusion as Diffusion, Level as Level, Process as Process, RectifiedFlow as RectifiedFlow
from .sample import path as path, sample as sample
from .samplers import (
    DDIM as DDIM,
    DDPM as DDPM,
    DPMSolver as DPMSolver,
    Euler as Euler,
    Heun as Heun,
    Sampler as Sampler,
    Step as Step,
)

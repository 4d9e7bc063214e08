from .ranking import is_first as is_first, rank as rank

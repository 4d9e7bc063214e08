"""Classes named in older records are found at their present place."""

import importlib

from research.config.migration import MOVED_CLASSES, MOVED_MODULES, REMOVED_FIELDS, current_name


def test_moved_modules_are_there():
    for old in MOVED_MODULES:
        module, _ = current_name(old, "AnyClass")
        assert importlib.import_module(module) and module not in MOVED_MODULES, old


def test_moved_classes_and_classes_with_removed_fields_are_there():
    for module, name in [current_name(*moved) for moved in MOVED_CLASSES] + list(REMOVED_FIELDS):
        assert isinstance(getattr(importlib.import_module(module), name), type)

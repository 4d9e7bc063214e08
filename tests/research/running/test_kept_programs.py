"""Where compiled programs are kept, and what a user chose about it."""

import pathlib

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from research.running import kept_programs

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    """An empty cache folder of a user who chose nothing; JAX's options are put back afterwards."""
    before = {name: getattr(jax.config, name) for name in OPTIONS}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_programs_are_kept_in_the_users_cache_folder_which_is_said_once(cache_home):
    said = kept_programs.keep_programs()
    folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
    assert folder.is_relative_to(cache_home / "espalier") and str(folder.parent) in said
    assert folder.stat().st_mode & 0o777 == 0o700
    compilation_cache.reset_cache()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.jit(lambda x: x * 3 + 1).lower(2.0).compile()
    assert list(folder.glob("*-cache"))
    jax.config.update("jax_compilation_cache_dir", None)
    assert kept_programs.keep_programs() is None and jax.config.jax_compilation_cache_dir == str(folder)


def test_machines_that_differ_share_no_folder(cache_home, monkeypatch):
    own = kept_programs.programs_folder()
    monkeypatch.setattr(kept_programs, "_cpu_features", lambda: ["other"])
    assert kept_programs.programs_folder() != own and kept_programs.programs_folder().parent == own.parent


@pytest.mark.parametrize("option", [("jax_enable_compilation_cache", False), ("jax_compilation_cache_dir", "/own")])
def test_what_a_user_chose_stays(cache_home, option):
    jax.config.update(*option)
    assert kept_programs.keep_programs() is None
    assert getattr(jax.config, option[0]) == option[1] and not list(cache_home.iterdir())


def test_a_folder_that_cannot_be_made_is_done_without(cache_home, monkeypatch):
    (cache_home / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home / "file"))
    assert kept_programs.keep_programs() is None and jax.config.jax_compilation_cache_dir is None

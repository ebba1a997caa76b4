"""Four CPU devices for every test, and the small experiment that many of them run."""

import gc
import os

import jax
import numpy as np
import pytest
from PIL import Image

jax.config.update("jax_num_cpu_devices", 4)

# Programs run for an instant here and compile for long. Those of processes that a test starts are
# compiled as users have them.
jax.config.update("jax_disable_most_optimizations", True)

from pathlib import Path  # noqa: E402

from gaxn import config as configs  # noqa: E402
from gaxn.experiment.settings import defaults_of  # noqa: E402
from gaxn.io import compilation_cache  # noqa: E402

# Many tests compile the same programs; once is enough, for all of pytest's workers and for the
# next time. Processes that tests start keep theirs in the same place.
compilation_cache.enable()
# What compiles in an instant takes as long to keep.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# Tracing makes millions of small objects that stay; see main.py.
gc.freeze()
gc.set_threshold(50_000)

CONFIGS = Path(__file__).parents[1] / "configs"
DATA = Path(__file__).parents[2] / "shared" / "data"
if DATA.is_dir():
    os.environ.setdefault("GAXN_DATA", str(DATA))


# A block less in each player than attn_cgan_shapes:tiny has: a third less to compile.
SMALLER = ("generator.widths=(8, 8)", "discriminator.widths=(8, 8)")


@pytest.fixture(scope="session")
def tiny():
    """A function from overrides, "field=value", to a config smaller than attn_cgan_shapes:tiny."""

    def config(*overrides: str):
        file = f"--config={CONFIGS / 'attn_cgan_shapes.py'}:tiny"
        flags = [f"--config.{override}" for override in (*SMALLER, *overrides)]
        return configs.parse(["gaxn", file, *flags], defaults_of).config

    return config


@pytest.fixture(scope="session")
def ring():
    """A function from overrides to the config of ring:tiny, or of another row and config."""

    def config(*overrides: str, variant: str = "pacgan2+tiny", name: str = "ring"):
        file = f"--config={CONFIGS / name}.py:{variant}"
        flags = [f"--config.{override}" for override in overrides]
        return configs.parse(["gaxn", file, *flags], defaults_of).config

    return config


@pytest.fixture(scope="module", autouse=True)
def released_programs():
    """Releases the programs that a module compiled: a worker would grow to 7 GB."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def float64():
    """Doubles wherever a test asks for no other type."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def photos(tmp_path):
    """A folder of pictures of noise, of several sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(90):
        pixels = random.integers(0, 256, (32 + index % 3, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder

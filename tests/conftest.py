"""Four CPU devices for every test, and the small experiment that many of them run."""

import atexit
import os
import shutil
import tempfile

import jax
import numpy as np
import pytest
from PIL import Image

jax.config.update("jax_num_cpu_devices", 4)

# Many tests compile the same programs; once is enough, in whichever of pytest's workers.
if "GAXN_COMPILED" not in os.environ:
    os.environ["GAXN_COMPILED"] = tempfile.mkdtemp(prefix="gaxn-compiled-")
    atexit.register(shutil.rmtree, os.environ["GAXN_COMPILED"], ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", os.environ["GAXN_COMPILED"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

# Programs run for an instant here and compile for long. Those of processes that a test starts are
# compiled as users have them.
jax.config.update("jax_disable_most_optimizations", True)

from pathlib import Path  # noqa: E402

from gaxn import arguments  # noqa: E402
from gaxn.modes import MODES  # noqa: E402

CONFIGS = Path(__file__).parents[1] / "configs"
DATA = Path(__file__).parents[2] / "shared" / "data"
if DATA.is_dir():
    os.environ.setdefault("GAXN_DATA", str(DATA))


@pytest.fixture(scope="session")
def tiny():
    """A function from overrides, "field=value", to the config of attn_cgan_shapes:tiny."""

    def config(*overrides: str):
        file = f"--config={CONFIGS / 'attn_cgan_shapes.py'}:tiny"
        flags = [f"--config.{override}" for override in overrides]
        return arguments.parse(["gaxn", file, *flags], MODES).config

    return config


@pytest.fixture(scope="session")
def ring():
    """A function from overrides to the config of ring:tiny, or of another row and config."""

    def config(*overrides: str, variant: str = "pacgan2+tiny", name: str = "ring"):
        file = f"--config={CONFIGS / name}.py:{variant}"
        flags = [f"--config.{override}" for override in overrides]
        return arguments.parse(["gaxn", file, *flags], MODES).config

    return config


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

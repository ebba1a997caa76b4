"""Made-up reports that have every part of the page, for the tests in a browser."""

import base64
import io
import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

HOSTILE = "<script>alert('1')</script> \"q\" 'q' $_$ </script><!--<script> &amp; \u2028"
"""Text of a run that must be shown as it is."""

CLASSES = ("square", "circle", "triangle")

STEPS = list(range(0, 8_001, 50))
GRID_STEPS = list(range(0, 8_001, 1_000))


def make_run(seed: int = 0, hostile: bool = False) -> dict[str, Any]:
    """Returns the report of a trained run with every part; of hostile names if asked for."""
    random = np.random.default_rng(seed)
    images: dict[str, str] = {}
    name = HOSTILE if hostile else "attn_cgan_shapes"
    classes = [HOSTILE if hostile else CLASSES[0], *CLASSES[1:]]
    grids = [
        {"step": step, "image": _grid(images, random, noise=1 - step / 8_000, alt=f"step {step}")}
        for step in GRID_STEPS
    ]
    run = {
        "label": HOSTILE if hostile else f"seed {seed}",
        "name": name,
        "sentence": HOSTILE if hostile else "A conditional GAN draws a square, circle or triangle.",
        "state": _state(hostile),
        "facts": _facts(name),
        "command": f"python -m gaxn.main --config configs/{name}.py --config.seed={seed}",
        "headlines": _headlines(hostile),
        "images_per_step": 32,
        "curves": _curves(random, name if hostile else "r1"),
        "warnings": [
            {"step": 1_500, "text": HOSTILE if hostile else "samples are almost identical"},
            {"step": 6_000, "text": "gradient norm of the discriminator is above 100"},
        ],
        "samples": {
            "grids": grids,
            "real": _grid(images, random, noise=0, alt="real images"),
            "best": len(grids) - 2,
            "animation": _animation(images, random),
            "caption": "One row a class, one column a latent vector.",
            "per_class": [
                {
                    "name": label,
                    "image": _grid(images, random, 0.1, f"samples of {label}", rows=2, columns=4),
                    "figures": {"precision": 0.98, "recall": 0.97, "f1": 0.975},
                }
                for label in classes
            ],
        },
        "confusion": confusion(classes, random),
        "translation": [_direction(images, random, way) for way in ("a2b", "b2a")],
        "attention": {"views": _views(images, random, hostile)},
        "interpolations": [
            {
                "name": HOSTILE if hostile else "between latent vectors",
                "image": _grid(images, random, 0.05, "rows between two latent vectors"),
                "animation": None,
            }
        ],
        "nearest": {
            "image": _grid(images, random, 0.05, "samples and their nearest training images"),
            "caption": "First column: samples. Others: the nearest training images.",
            "copied_share": 0.005,
            "copied_share_real": 0.01,
        },
        "singular_values": [
            {"layer": HOSTILE if hostile else "attention_16/Dense_0", "estimate": 1.02, "exact": 1},
            {"layer": "attention_16/Dense_1", "estimate": 0.9996, "exact": 1.0004},
        ],
        "population": {
            "seeds": [0, 1, 2],
            "figures": [
                {"name": "frechet_distance", "values": [1.3, 1.5, None], "mean": 1.4, "error": 0.1}
            ],
        },
        "config": _config(hostile),
        "protocols": [
            {
                "part": HOSTILE if hostile else "classifier",
                "fields": [
                    {"name": "reference", "value": "shapes size=32, test split"},
                    {"name": HOSTILE if hostile else "samples", "value": "10000"},
                ],
                "figures": [
                    {"name": "precision", "value": 0.86, "error": 0.0035, "real": 0.9478},
                    {"name": "density", "value": 0.8664, "error": None, "real": None},
                ],
            }
        ],
    }
    return {
        "kind": "run",
        "generated_at": "2026-07-24T10:11:12+00:00",
        "runs": [run],
        "table": None,
        "config_differences": None,
        "images": images,
    }


def make_comparison(hostile: bool = False) -> dict[str, Any]:
    """Returns the comparison of three runs, whose batches and grids are not the same."""
    reports = [make_run(seed, hostile=hostile and seed == 2) for seed in range(3)]
    runs = [report["runs"][0] for report in reports]
    runs[1]["images_per_step"] = 64
    runs[2]["samples"]["grids"] = runs[2]["samples"]["grids"][2:]
    name = HOSTILE if hostile else "Fréchet distance"
    return {
        "kind": "comparison",
        "generated_at": "2026-07-24T10:11:12+00:00",
        "runs": runs,
        "table": {
            "columns": [run["label"] for run in runs],
            "rows": [
                {
                    "name": name,
                    "values": ["1.34 ± 0.22", "1.51 ± 0.20", "-"],
                    "group": "classifier",
                },
                {"name": "precision", "values": ["0.860", "0.851", "0.8"], "group": "classifier"},
                {"name": "images seen", "values": ["256,000", "512,000", name], "group": "cost"},
            ],
            "notes": [f"The reference of {name} is the test split."],
        },
        "config_differences": [
            {"field": "seed", "values": ["0", "1", "2"]},
            {"field": "batch_size", "values": ["32", "64", name]},
        ],
        "images": {key: url for report in reports for key, url in report["images"].items()},
    }


def make_empty() -> dict[str, Any]:
    """Returns the report of a run that failed before its first line of the log."""
    run = dict.fromkeys(("confusion", "translation", "attention", "nearest", "singular_values"))
    run |= {name: [] for name in ("curves", "warnings", "interpolations", "config", "protocols")}
    run |= {
        "label": "ring",
        "name": "ring",
        "sentence": "A ring of eight Gaussians.",
        "state": {
            "kind": "failed",
            "step": 0,
            "steps": 100,
            "images_per_second": None,
            "seconds_left": None,
            "message": "gaxn: config.seed must be an integer from 0 to 4294967295, got -1",
        },
        "facts": [],
        "command": "",
        "headlines": [],
        "images_per_step": 0,
        "samples": {"grids": [], "real": None, "best": -1, "animation": None, "per_class": []},
        "population": None,
    }
    return {"kind": "run", "generated_at": "", "runs": [run], "images": {}}


def confusion(classes: list[str], random: np.random.Generator) -> dict[str, Any]:
    """Returns a confusion matrix of 1,000 samples a class, most of them on the diagonal."""
    count = len(classes)
    chances = np.eye(count) * 50 + random.uniform(0, 1, (count, count)) ** 4
    matrix = [random.multinomial(1_000, row / row.sum()) for row in chances]
    return {
        "classes": classes,
        "matrix": [row.tolist() for row in matrix],
        "per_class": [
            {
                "name": name,
                "precision": 0.98,
                "recall": matrix[index][index] / 1_000,
                "f1": 0.97,
                "intra_frechet_distance": 7.25,
            }
            for index, name in enumerate(classes)
        ],
    }


def attention_maps(heads: int, side: int, keys_side: int, image: int) -> np.ndarray:
    """Returns maps with a closed form, uint8 [heads, queries, keys], from 0 to 255 in each row.

    Head 0 attends to the cell of the query alone, head 1 to all keys alike, further ones to a
    spot around the query.
    """
    cells = np.stack(np.meshgrid(*[(np.arange(side) + 0.5) / side] * 2, indexing="ij"), -1)
    keys = np.stack(np.meshgrid(*[(np.arange(keys_side) + 0.5) / keys_side] * 2, indexing="ij"), -1)
    squares = ((cells.reshape(-1, 1, 2) - keys.reshape(1, -1, 2)) ** 2).sum(-1)
    nearest = np.zeros_like(squares)
    nearest[np.arange(side**2), squares.argmin(-1)] = 1
    maps = [nearest, np.ones_like(squares)]
    maps += [np.exp(-squares * (60 / (head + image))) for head in range(1, heads - 1)]
    weights = np.stack(maps[:heads])
    return np.round(255 * weights / weights.max(-1, keepdims=True)).astype(np.uint8)


def _state(hostile: bool) -> dict[str, Any]:
    return {
        "kind": "training",
        "step": 7_000,
        "steps": 8_000,
        "images_per_second": 231.4,
        "seconds_left": 138.0,
        "message": HOSTILE if hostile else "",
    }


def _facts(name: str) -> list[dict[str, str]]:
    return [
        {"name": "data set", "value": f"{name}, 50,000 images of 32 x 32"},
        {"name": "seed", "value": "0"},
        {"name": "batch size", "value": "32"},
        {"name": "images seen", "value": "256,000"},
        {"name": "time taken", "value": "18 min"},
        {"name": "cost", "value": "10.2 GFLOP a step"},
        {"name": "parameters", "value": "generator 576,836, discriminator 437,602"},
        {"name": "devices", "value": "cpu:0, cpu:1"},
        {"name": "git", "value": "f92a9c4ab64109f35fac4a85d1dde9673f254efe"},
        {"name": "versions", "value": "gaxn 0.3.0, jax 0.10.2, flax 0.12.8, optax 0.2.8"},
    ]


def _headlines(hostile: bool) -> list[dict[str, Any]]:
    rows = [
        ("Fréchet distance", 1.3415, 0.2165, 0.7535, "lower"),
        ("conditional accuracy", 0.9837, 0.00127, 1.0, "higher"),
        ("precision", 0.86, 0.00347, 0.9478, "higher"),
        ("recall", 0.9427, 0.00232, 0.9479, "higher"),
        ("coverage", 0.9219, 0.00268, 0.9656, "higher"),
        ("copied share", 0.005, None, 0.01, ""),
    ]
    return [
        {
            "part": "classifier",
            "name": HOSTILE if hostile and not index else name,
            "value": value,
            "error": error,
            "real": real,
            "text": str(value),
            "better": better,
        }
        for index, (name, value, error, real, better) in enumerate(rows)
    ]


def _curves(random: np.random.Generator, name: str) -> list[dict[str, Any]]:
    def noisy(level, decay, noise, steps=STEPS):
        return [
            float(level * math.exp(-step * decay) + noise * random.normal() + level / 3)
            for step in steps
        ]

    def series(label, *arguments, **options):
        return {"name": label, "steps": options.get("steps", STEPS), "values": noisy(*arguments)}

    mean = noisy(4, 1e-3, 0.05)
    interim = STEPS[::10]
    distance = {
        "name": "frechet_distance",
        "steps": interim,
        "values": [float(40 * math.exp(-step / 900) + 1.3) for step in interim],
    }
    holes = series("penalty", 2, 1e-3, 0.1)
    holes["values"] = [
        None if 40 < index < 60 else value for index, value in enumerate(holes["values"])
    ]
    rate = [2e-3 if step < 2_000 else 2e-3 * (1 - 0.95 * (step - 2_000) / 6_000) for step in STEPS]
    return [
        {
            "title": "Losses",
            "unit": "",
            "series": [series("d/adversarial", 1, 1e-3, 0.08), series("g/loss", 2, 5e-4, 0.1)],
            "log": False,
        },
        {
            "title": "Logits",
            "unit": "",
            "series": [series("d/real", 3, 1e-3, 0.2), series("d/fake", -3, 1e-3, 0.2)],
            "log": False,
        },
        {
            "title": "Gradient norms",
            "unit": "",
            "series": [
                {
                    "name": "d/gradient_norm",
                    "steps": STEPS,
                    "values": mean,
                    "low": [value * 0.8 for value in mean],
                    "high": [value * 1.3 for value in mean],
                }
            ],
            "log": True,
        },
        {"title": name, "unit": "per image", "series": [holes], "log": False},
        {
            "title": "Learning rates",
            "unit": "",
            "series": [{"name": "generator", "steps": STEPS, "values": rate}],
            "log": False,
        },
        {"title": "Fréchet distance", "unit": "", "series": [distance], "log": True},
        {
            "title": "Singular values",
            "unit": "",
            "series": [series(f"attention_16/Dense_{index}", 1, 0, 1e-7) for index in range(12)],
            "log": False,
        },
    ]


def _config(hostile: bool) -> list[dict[str, Any]]:
    rows = [
        ("batch_size", "32", "32"),
        ("data.name", '"shapes"', '"shapes"'),
        ("data.size", "32", "32"),
        ("generator.name", '"attn_cgan.Generator"', '"attn_cgan.Generator"'),
        ("generator.widths", "(128, 64, 32)", "(128, 64, 32)"),
        ("optimizers.discriminator.learning_rate", "0.001", "0.001"),
        ("optimizers.generator.decay.begin", "2000", "2000"),
        ("optimizers.generator.learning_rate", "0.001", "0.002"),
        ("run.note", HOSTILE if hostile else '"a try"', None),
        ("seed", "0", "0"),
    ]
    return [
        {"field": field, "value": value, "default": default, "differs": value != default}
        for field, value, default in rows
    ]


def _direction(images: dict[str, str], random: np.random.Generator, way: str) -> dict[str, Any]:
    examples = []
    for _ in range(3):
        shape = _shape(random)
        inverse = 255 - shape
        names = ("source", "translation", "reconstruction", "truth")
        pictures = (shape, inverse, _noisy(shape, random, 0.05), inverse)
        examples.append(
            {
                name: _image(images, pixels, f"{name}, {way}")
                for name, pixels in zip(names, pictures, strict=True)
            }
        )
        if way == "b2a":
            examples[-1]["truth"] = None
    return {"direction": way, "examples": examples, "figures": {f"cycle_mae_{way[0]}": 0.01143}}


def _views(images: dict[str, str], random: np.random.Generator, hostile: bool) -> list[Any]:
    def layer(name, gamma, heads, side, keys_side, count):
        maps = [attention_maps(heads, side, keys_side, image) for image in range(count)]
        return {
            "name": name,
            "gamma": gamma,
            "heads": heads,
            "side": side,
            "keys_side": keys_side,
            "maps": [base64.b64encode(part.tobytes()).decode() for part in maps],
        }

    def pictures(count):
        return [_image(images, _shape(random), f"image {index}") for index in range(count)]

    name = HOSTILE if hostile else "attention_16"
    return [
        {
            "player": "generator",
            "kind": "generated",
            "images": pictures(3),
            "layers": [layer(name, -0.431, 3, 16, 8, 3), layer("attention_8", 0.2, 1, 8, 8, 3)],
        },
        {
            "player": "discriminator",
            "kind": "real",
            "images": pictures(2),
            "layers": [layer("attention_8", None, 1, 8, 4, 2)],
        },
    ]


def _shape(random: np.random.Generator, size: int = 32) -> np.ndarray:
    """Returns a colored shape on black, uint8 [size, size, 3]."""
    picture = Image.new("RGB", (size * 4, size * 4))
    pen = ImageDraw.Draw(picture)
    color = tuple(int(value) for value in random.integers(80, 256, 3))
    x, y = random.uniform(1.5, 2.5, 2) * size
    radius = random.uniform(0.8, 1.3) * size
    sides = int(random.integers(2, 5))
    if sides == 2:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    else:
        pen.regular_polygon((x, y, radius), sides, int(random.integers(0, 90)), fill=color)
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))


def _noisy(pixels: np.ndarray, random: np.random.Generator, noise: float) -> np.ndarray:
    changed = pixels * (1 - noise) + random.uniform(0, 255, pixels.shape) * noise
    return changed.astype(np.uint8)


def _grid(images, random, noise, alt, rows: int = 3, columns: int = 8) -> dict[str, Any]:
    size = 34
    pixels = np.full((rows * size + 2, columns * size + 2, 3), 255, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * size + 2, column * size + 2
            pixels[top : top + 32, left : left + 32] = _noisy(_shape(random), random, noise)
    return _image(images, pixels, alt)


def _image(images: dict[str, str], pixels: np.ndarray, alt: str) -> dict[str, Any]:
    url = _url(Image.fromarray(pixels), "webp", lossless=True)
    key = f"{len(images)}-{hash(url)}"
    images[key] = url
    height, width = pixels.shape[:2]
    return {"src": f"@{key}", "width": width, "height": height, "alt": alt, "pixelated": True}


def _animation(images: dict[str, str], random: np.random.Generator) -> dict[str, Any]:
    frames = [Image.new("RGB", (96, 32), color) for color in ("red", "lime", "blue")]
    url = _url(frames[0], "gif", save_all=True, append_images=frames[1:], duration=300, loop=0)
    images["animation"] = url
    return {"src": "@animation", "width": 96, "height": 32, "alt": "samples through training"}


def _url(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"

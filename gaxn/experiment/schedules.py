"""From a config to schedules."""

from collections.abc import Mapping
from typing import Any

from gaxn.config import error_path, instantiate
from gaxn.experiment.settings import Settings
from gaxn.objectives import schedules


def with_schedules(
    spec: Mapping[str, Any], field: str, run_length: schedules.RunLength, updates_per_step: int = 1
) -> dict[str, Any]:
    """Returns fields with a schedule in place of each dict that describes one.

    Args:
        spec: the fields, or dicts of fields.
        field: their place in the config.
        run_length: of the run.
        updates_per_step: if the schedule counts a player's updates, how many a step has.
    """
    fields = {}
    for name, value in spec.items():
        path = f"{field}.{name}"
        if schedules.is_spec(value):
            relative = instantiate(
                "objectives.schedules", value, path, returns=schedules.RelativeSchedule
            )
            with error_path(path, ["points"]):
                value = schedules.make_schedule(relative, run_length, updates_per_step)
        elif isinstance(value, Mapping):
            value = with_schedules(value, path, run_length, updates_per_step)
        fields[name] = value
    return fields


def make_ema_decay(
    settings: Settings, run_length: schedules.RunLength
) -> schedules.ScalarOrSchedule:
    """Returns the decay of the generator's moving average, or a schedule of it."""
    fields = {"ema_decay": settings.ema_decay, "ema_halflife_kimg": settings.ema_halflife_kimg}
    fields = with_schedules(fields, "config", run_length)
    valid, expected = lambda value: 0 <= value < 1, "at least 0 and below 1"
    schedules.check_values("ema_decay", fields["ema_decay"], valid, expected)
    halflife = fields["ema_halflife_kimg"]
    valid, expected = lambda value: value >= 0, "above 0, or 0 for ema_decay"
    schedules.check_values("ema_halflife_kimg", halflife, valid, expected)
    if halflife == 0:
        return fields["ema_decay"]
    return schedules.transform(halflife, lambda kimg: 0.5 ** (settings.batch_size / (1_000 * kimg)))

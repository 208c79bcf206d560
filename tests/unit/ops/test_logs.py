"""Log lines: fields in logfmt and JSON, one line a record."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from qemu_migration_exporter.ops import logs

LOGGER = logging.getLogger("qemu_migration_exporter.test")


@pytest.fixture(autouse=True)
def _restore_logging() -> Any:  # noqa: ANN401 - a generator
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({}, 'msg="migration ended"'),
        (
            {"vm": "web-42", "downtime_seconds": 0.298123456},
            'msg="migration ended" vm=web-42 downtime_seconds=0.298123',
        ),
        ({"error": None, "rounds": 0}, 'msg="migration ended" rounds=0'),
        ({"inferred": True}, 'msg="migration ended" inferred=true'),
        ({"vm": 'a "b"\nlevel=error', "empty": ""}, r'msg="migration ended" vm="a \"b\"\nlevel=error" empty=""'),
        ({"level": "x"}, 'msg="migration ended" level_=x'),
    ],
)
def test_logfmt_has_fields(capsys: pytest.CaptureFixture[str], fields: dict[str, object], end: str) -> None:
    logs.set_up("info", "logfmt")

    LOGGER.info("migration ended", extra=fields)

    line = capsys.readouterr().err
    assert line.startswith("ts=2")
    assert line.endswith(f" level=info logger={LOGGER.name} {end}\n")


def test_json_keeps_types_of_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")

    LOGGER.warning("migration stalled", extra={"vm": "web-42", "round": 5, "eta": None, "ratio": 0.25})

    record = json.loads(capsys.readouterr().err)
    assert record.pop("ts").endswith("Z")
    assert record == {
        "level": "warning", "logger": LOGGER.name, "msg": "migration stalled", "vm": "web-42", "round": 5, "ratio": 0.25,
    }  # fmt: skip

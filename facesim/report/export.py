"""The comparison as JSON, for `--json` and for further analysis."""

from __future__ import annotations

import dataclasses
from typing import Any

from facesim.report.answer import answer, question
from facesim.report.comparison import Comparison, Contrast
from facesim.report.rows import Row
from facesim.util.files import json_content


def to_json(comparison: Comparison) -> dict[str, Any]:
    """`comparison` as plain data that `json.dumps(..., allow_nan=False)` accepts.

    Measures keep their names, which carry the units (`training_s`, `wire_bytes`). Accuracies are shares, 0-1, and CPU
    is in percent.
    """
    content = {
        "question": question(comparison),
        "answer": [sentence._asdict() for sentence in answer(comparison)],
        "rows": [_row(row) for row in comparison.rows],
        "contrasts": [_contrast(contrast) for contrast in comparison.contrasts],
        "target_accuracy": comparison.target_accuracy,
        "target_origin": comparison.target_origin,
        "headlines": [finding._asdict() for finding in comparison.headlines],
        "findings": [finding._asdict() for finding in comparison.findings],
        "warnings": list(comparison.warnings),
        "against_forecast": [each.to_dict() for each in comparison.forecast_checks],
        "baselines": [
            {**method._asdict(), "accuracy": dataclasses.asdict(method.accuracy)} for method in comparison.baselines
        ],
        "learning_curves": [
            {
                "label": curve.label,
                "network": curve.network,
                "points": [
                    {**point._asdict(), "accuracy": dataclasses.asdict(point.accuracy)} for point in curve.points
                ],
            }
            for curve in comparison.curves
        ],
    }
    return json_content(content)


def _row(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "strategy": row.records[0].job.strategy,
        "backend": row.backend,
        "shape": dict(row.records[0].job.shape),
        "measurement": row.measurement,
        "dollars": "of the instances" if row.priced else "hypothetical: seconds of this machine at instances' prices",
        "tested_sha256": row.tested,
        "target_accuracy": row.target_accuracy,
        "disturbed": row.disturbed,
        "seeds": row.seeds,
        "sync_audit": row.audit,
        "held_out_accuracy_interval": row.accuracy_interval(),
        "measures": {
            name: estimate and _estimate(row, name) for name in row.measures for estimate in [row.estimate(name)]
        },
        "runs": [
            {
                "run_id": record.run.id,
                "directory": str(record.run.directory),
                "seed": record.result.seed,
                "state": record.result.state.value,
                "counted": record in row.counted,
                "resumed": record.resumed,
                "earlier_shapes": record.earlier_shapes,
                "forecast": record.forecast and record.forecast.model_dump(mode="json"),
                "load": record.result.load and record.result.load.model_dump(),
                "failure": record.result.failure,
                "sync_audit": record.result.sync_audit.model_dump(),
            }
            for record in row.records
        ],
    }


def _estimate(row: Row, name: str) -> dict[str, Any]:
    return {**dataclasses.asdict(row.estimate(name)), "by_seed": row.values(name)}


def _contrast(contrast: Contrast) -> dict[str, Any]:
    ratios = {
        name: ratio and dataclasses.asdict(ratio)
        for name in ("training", "total", "time_to_accuracy", "instance_s")
        for ratio in [getattr(contrast, name)]
    }
    return {
        "row": contrast.row.label,
        "reference": contrast.reference.label,
        "ratios": ratios,
        "other_images": contrast.other_images,
        "accuracy": contrast.accuracy
        and {**dataclasses.asdict(contrast.accuracy), "outcome": contrast.accuracy.outcome.value},
    }

"""What a training task found and counted: what the report shows of it, and what the sync audit asks for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from facesim.data.identity import identity_of
from facesim.preflight.pretrained import FILE
from facesim.runs.records import Counts, Data, TaskOutcome
from facesim.training.context import Context
from facesim.training.protocols import Replicas
from facesim.training.train_state import TrainState


def outcome(context: Context, state: TrainState, replicas: Replicas) -> TaskOutcome:
    """What `outcome.json` holds. `replicas` have the final parameters."""
    counts, findings, phases = state.counts, state.found, state.phases
    steady_s = phases.get("training_s", 0.0) - phases.get("first_step_s", 0.0)
    steady_examples = counts.examples - state.first_examples  # to compile takes most of a first step
    identities = np.bincount(context.data.labels[context.train_indices])
    return TaskOutcome(
        stopped=context.stopping,
        held_out_accuracy=findings.get("held_out_accuracy"),
        held_out_loss=findings.get("held_out_loss"),
        training_accuracy=findings.get("training_accuracy"),
        images_per_s=steady_examples / steady_s if steady_s > 0 and steady_examples > 0 else None,
        training_s=phases.get("training_s"),
        examples_seen=counts.examples,
        updates=counts.updates,
        phases=phases,
        parameters=replicas.parameters,
        parameter_bytes=replicas.parameter_bytes,
        parameters_sha256=_digests(replicas),
        devices=getattr(replicas, "devices", None),  # what a framework does not say is not known
        pretrained_sha256=_digest(context.pretrained / FILE) if context.pretrained else None,
        data=Data(
            name=context.data.name,
            identities=len(context.data.names),
            training_examples=len(context.train_indices),
            held_out_examples=len(context.held_out_indices),
            chance_accuracy=float(identities.max() / identities.sum()),
            content_sha256=context.data.sha256,
            tested_sha256=identity_of(context.data, context.held_out_indices) if context.leads else None,
            not_used=tuple(context.data.unused),
            notes=context.data.notes_for(context.experiment.data_spec),
        ),
        counted=Counts(
            examples_due=context.epochs * len(context.train_indices),
            examples=counts.examples,
            updates=counts.updates,
            last_version=counts.last_version,
            first_step_updates=state.first_updates,
            steps_by_worker=dict(sorted(counts.steps_by_worker.items())),
            examples_by_worker=dict(sorted(counts.examples_by_worker.items())),
            staleness=dict(sorted(counts.staleness.items())),
            steps_per_exchange=replicas.steps_per_exchange,
            exchange_bytes=replicas.exchange_bytes,
            steps_since_resized=dict(sorted(state.resized.steps_by_worker.items())) if state.resized else None,
        ),
    )


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _digests(replicas: Replicas) -> list[str]:
    """SHA-256 of the bytes of parameters and moving statistics, one for each replica that this process holds."""
    return [hashlib.sha256(b"".join(part.tobytes() for part in copy)).hexdigest() for copy in replicas.copies()]

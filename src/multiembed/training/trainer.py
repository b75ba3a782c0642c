"""The training loop: batches in, a run directory out, resumable at any moment to the same bytes."""

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
import torch

from multiembed.base.devices import chosen_device
from multiembed.base.errors import ConfigError, DataError
from multiembed.base.memory import peak_memory
from multiembed.config import RunConfig
from multiembed.data.store.dataset import Dataset
from multiembed.data.store.schema import FieldSizes
from multiembed.data.store.shards import Batch
from multiembed.models.layers import SetBatchNorm
from multiembed.runs.building import build_model
from multiembed.runs.calibrate import self_calibrate
from multiembed.runs.directory import (
    RunDirectory,
    load_tensors,
    module_tensors,
    save_tensors,
    under,
)
from multiembed.runs.evaluation import quality
from multiembed.runs.metrics import ReliabilityBin, expected_calibration_error, reliability_curve
from multiembed.runs.run import Run
from multiembed.runs.scoring import EVALUATION_BATCH, predict_batches
from multiembed.training.monitor import Monitor, Observation
from multiembed.training.predecessor import Predecessor
from multiembed.training.progress import (
    Observer,
    Record,
    TrainingProgress,
    TrainingState,
    is_better,
)
from multiembed.training.row_counts import count_rows
from multiembed.training.settling import begin_at, other_settled, settle_norms, spare_dropout
from multiembed.training.step import ResidentBatch, TrainingStep, check_precision, resident
from multiembed.training.trackers import Tracking
from multiembed.training.vector_matching import FieldVectors

REPORT_STEPS = 20
"""Steps between two readings of the loss: each reading waits for the device."""
CHECKPOINT_SECONDS = 600.0
"""Most training time that a kill can cost between evaluations."""


class Trainer:
    """One training: model, optimizers and state, and the loop over them."""

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        directory: RunDirectory,
        observer: Observer | None = None,
        tracking: Tracking | None = None,
        earlier: Predecessor | None = None,
        vectors: Mapping[int, FieldVectors] | None = None,
    ) -> None:
        self.config = config
        self.training = config.training
        self.directory = directory
        self.observer = observer
        self.tracking = tracking or Tracking((), directory.path)
        self.monitor = Monitor(directory, dataset.field_names, self.tracking, observer)
        self.train_split = dataset.split("train")
        self.valid_split = dataset.split("valid")
        for split in (self.train_split, self.valid_split):
            if not 0 < split.positives < split.rows:
                raise DataError(
                    f"{dataset.path} must hold rows of both classes in every split, "
                    f"got {split.positives} positives in {split.rows} rows of one"
                )
        # Also checks every id, since lookups in training trust them.
        sizes = dataset.schema.sizes
        self.row_counts = count_rows(self.train_split, *sizes[:3])
        if earlier is not None:
            self.row_counts += earlier.counts
        elif config.start is not None:  # resumed: the directory has what was counted before, too
            self.row_counts = np.concatenate(directory.read_row_counts(dataset.cardinalities))
        self._build(sizes, vectors or {})
        thinned = self.training.negative_rate < 1  # row by row, on a CPU
        self.rows = self.train_split if thinned else resident(self.train_split, self.device)
        self.state = TrainingState(learning_rate=self.training.learning_rate)
        self._saved_at = self._evaluated_at = time.monotonic()
        if earlier is not None:
            earlier.hand_over(self.model, self.step, self.device)
        if earlier is not None or vectors:
            self.save()  # first, so that a resumed training needs nothing from elsewhere any more
        if not directory.config.exists():
            directory.write_inputs(config.to_toml(), dataset.path, self.row_counts)

    def _build(self, sizes: FieldSizes, vectors: Mapping[int, FieldVectors]) -> None:
        """Draw the model and make what trains it."""
        torch.manual_seed(self.training.seed)
        self.device = chosen_device(self.training.device)
        check_precision(self.training.precision, self.device)
        self.model = build_model(self.config, *sizes)
        for place, of in vectors.items():
            self.model.embedding.fill_vectors(place, of.places, of.vectors)
        if self.training.from_base_rate:
            begin_at(self.model, self.train_split.base_rate(self.training.negative_rate))
        self.model.to(self.device)
        spare_dropout(self.model, sizes.cardinalities, self.row_counts)
        mean = self.train_split.mean_weight
        self.step = TrainingStep(self.model, self.training, self.device, mean_weight=mean)
        self.tables = self.step.tables

    def run(self) -> None:
        """Train until patience, epochs or time run out; does nothing if already finished."""
        self.directory.keep_observations(len(self.state.abundances))
        if not self.state.finished:
            self.tracking.start(self.config.model_dump(mode="json"), step=self.state.step)
            try:
                self._train()
            finally:
                self.tracking.finish()
        if not self.directory.summary.exists():  # what was calibrated since then stays
            self._finish()

    def _train(self) -> None:
        started = time.monotonic() - self.state.seconds
        while not self.state.finished:
            self.model.train()
            for batch in self._epoch():
                self.step(batch, self.state.learning_rate)
                self.state.step += 1
                self.state.loss_steps += 1
                self.state.seconds = time.monotonic() - started
                self._after_step()
                if self.state.finished:
                    break
            else:
                self.state.epoch, self.state.batch = self.state.epoch + 1, 0
                if self.training.evaluate_every is None:
                    self._evaluate()
                elif self.state.epoch >= self.training.max_epochs:
                    self._evaluate(last=True)

    def _epoch(self) -> Iterator[Batch | ResidentBatch]:
        """Yield what is left of the epoch, thinned where negatives are down-sampled."""
        rate = self.training.negative_rate
        # So many rows are read that about `batch_size` of them are left when thinned.
        kept_share = self._kept_rows() / self.train_split.rows
        size = max(2, round(self.training.batch_size / kept_share))
        seed = self.training.seed if self.training.shuffle else None
        batches = self.rows.batches(size, seed=seed, epoch=self.state.epoch, start=self.state.batch)
        for batch in batches:
            self.state.batch += 1
            if rate < 1 and isinstance(batch, Batch):
                batch = self._thinned(batch, rate)
            if len(batch.labels) >= 2:  # batch norm needs two rows; a short last batch may have one
                yield batch

    def _kept_rows(self) -> float:
        positives = self.train_split.positives
        return positives + self.training.negative_rate * (self.train_split.rows - positives)

    def _thinned(self, batch: Batch, rate: float) -> Batch:
        """Keep every positive and a share `rate` of the negatives, drawn anew each epoch."""
        seeds = (self.training.seed, self.state.epoch, self.state.batch)
        drawn = np.random.default_rng(seeds).random(len(batch.labels))
        kept = (batch.labels != 0) | (drawn < rate)
        return batch.map(lambda column: column[kept])

    def _after_step(self) -> None:
        if self.state.step % REPORT_STEPS == 0:
            self._report()
        every = self.training.evaluate_every
        out_of_time = self.state.seconds > (self.training.time_limit or math.inf)
        if out_of_time or (every is not None and self.state.step % every == 0):
            self._evaluate(last=out_of_time)
            return
        if self.state.step % (self.training.monitor_every or self.state.step + 1) == 0:
            with self._measured():
                pass
        if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
            self.save()

    def _report(self) -> None:
        if self.observer is None:
            return
        steps = math.ceil(self._kept_rows() / self.training.batch_size)
        self.observer.stepped(
            TrainingProgress(
                epoch=self.state.epoch + 1,
                step=self.state.batch,
                steps=steps,
                loss=self._mean_loss(),
                rows_per_second=self._rows_per_second(),
            )
        )

    def _mean_loss(self) -> float:
        return (self.state.loss_sum + float(self.step.loss_sum)) / max(1, self.state.loss_steps)

    def _rows_per_second(self) -> float:
        seconds = time.monotonic() - self._evaluated_at
        rows = self.state.loss_steps * self.training.batch_size
        return rows / seconds if seconds > 0 else 0.0

    def _evaluate(self, *, last: bool = False) -> None:
        """Evaluate on the validation split, keep the model if it is the best, checkpoint."""
        state = self.state
        record = {"epoch": state.epoch, "step": state.step, "train_loss": self._mean_loss()}
        if not math.isfinite(record["train_loss"]):
            raise ConfigError(
                f"training loss must stay finite, got {record['train_loss']} by step {state.step}; "
                "a lower learning_rate or a gradient_clip may help"
            )
        speed = self._rows_per_second()
        with self._measured() as observation:
            self._measure(record, observation, speed, last=last)
        self.tracking.log(record, step=state.step)
        self.directory.write_metrics(state.records)
        self.save()
        self._evaluated_at = time.monotonic()
        self.model.train()
        if self.observer is not None:
            self.observer.evaluated(record)

    def _measure(
        self, record: Record, observation: Observation, speed: float, *, last: bool
    ) -> None:
        """Complete the record of an evaluation, and judge it."""
        labels, probabilities = predict_batches(
            self.model,
            self.valid_split.batches(EVALUATION_BATCH),
            negative_rate=self.training.negative_rate,
        )
        weights = self.valid_split.weights
        record |= quality(labels, probabilities, weights)
        curve = reliability_curve(labels, probabilities, weights)
        record["expected_calibration_error"] = expected_calibration_error(curve)
        record |= {f"mean_{name}": value for name, value in observation.mean.measures.items()}
        record |= {
            "learning_rate": self.state.learning_rate,
            "seconds": round(self.state.seconds, 3),
            "rows_per_second": round(speed),
            "peak_memory_bytes": peak_memory(),
        }
        self._judge(record, curve, last=last)

    @contextmanager
    def _measured(self) -> Iterator[Observation]:
        """Bring the tables up to date and measure them, settled as the model is to serve."""
        self.tables.flush()
        with other_settled(self.model.embedding, self.row_counts):
            rows = self.train_split.batches(self.training.batch_size, seed=self.training.seed)
            settle_norms(self.model, (batch for batch in rows if len(batch.labels) >= 2))
            yield self.monitor.observe(self.model.embedding, self.state)

    def _judge(self, record: Record, curve: list[ReliabilityBin], *, last: bool) -> None:
        """Keep the best model, count evaluations without a better one, decide about stopping."""
        state = self.state
        state.loss_sum, state.loss_steps = 0.0, 0
        self.step.loss_sum.zero_()
        if is_better(record, state.records, self.training.best_by):
            state.best_auc, state.best_step, state.worse_in_a_row = record["auc"], state.step, 0
            self.directory.write_best(self.model.state_dict(), record, curve)
        else:
            state.worse_in_a_row += 1
            state.learning_rate *= self.training.learning_rate_decay or 1.0
        state.records.append(record)
        out_of_patience = state.worse_in_a_row >= self.training.patience
        state.finished = last or out_of_patience or state.epoch >= self.training.max_epochs

    def save(self) -> None:
        """Write `last.safetensors`: everything needed to go on."""
        # The sum on the device starts anew here and in a resumed training alike: floating-point
        # sums depend on their order, and the two must come to the same bytes.
        self.state.loss_sum += float(self.step.loss_sum)
        self.step.loss_sum.zero_()
        tensors = module_tensors(self.model, "model")
        tensors |= {f"tables.{name}": tensor for name, tensor in self.tables.state().items()}
        tensors |= {f"adam.{name}": tensor for name, tensor in self.step.adam.state().items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        save_tensors(self.directory.last, tensors, asdict(self.state))
        self._saved_at = time.monotonic()

    def load(self) -> None:
        """Go on from `last.safetensors`."""
        tensors, state = load_tensors(self.directory.last)
        self.state = TrainingState(**state)
        self.model.load_state_dict(under(tensors, "model"))
        for part in self.model.modules():
            if isinstance(part, SetBatchNorm):
                part.untouched = self.state.step == 0 and self.config.start is None
        self.tables.load_state(under(tensors, "tables"))
        self.step.adam.load_state(under(tensors, "adam"))
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        self.directory.write_metrics(self.state.records)

    def _finish(self) -> None:
        """Calibrate the best model, if asked to; the summary, written last, ends the run."""
        state, calibrated = self.state, dict[str, object]()
        if self.training.calibration != "none":
            best = Run(self.directory.path, model=self.model)
            calibrated["calibration"] = self_calibrate(best).model_dump()
        self.directory.write_summary(
            {
                "best_step": state.best_step,
                "best_valid_auc": state.best_auc,
                "epochs": state.epoch,
                "steps": state.step,
                "seconds": round(state.seconds, 3),
                "parameters": sum(p.numel() for p in self.model.parameters()),
                "python": sys.version.split()[0],
                "torch": torch.__version__,
                "device": self.device.type,
                "threads": torch.get_num_threads(),
                **calibrated,
            }
        )

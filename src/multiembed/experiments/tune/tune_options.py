"""What is asked of a tuning; reading it loads neither torch nor Optuna."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, field_validator

from multiembed.base.bounds import Seed
from multiembed.base.flags import Flag
from multiembed.config import BestBy, RecipeName


class TuneOptions(BaseModel):
    """What `tune` looks for and where; calls that go on with a tuning must ask the same.

    Every option is given by its name; what it means and may be stands under it.

    Raises:
        ValidationError: Of pydantic, if an option is unknown or out of range.

    Example:
        >>> import multiembed as me
        >>> me.TuneOptions(by="auc", architectures="dnn,dcnv2").architectures
        ('dnn', 'dcnv2')
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    by: BestBy = "log_loss"
    """What is best on the validation split."""
    seed: Seed = 0
    """Of the choices, and of every training. The default is 0."""
    recipe: RecipeName | None = None
    """What settings begin at: the first trial. By default the recipe that train has."""
    settings: Annotated[tuple[str, ...], Flag("--set", "KEY=VALUE")] = ()
    """A setting of all trials, which is not varied: training.batch_size=512 and the like."""
    only: Annotated[tuple[str, ...], Flag("--only", "KEYS")] = ()
    """Vary these alone, by commas: training.learning_rate,model.dim and the like."""
    architectures: Annotated[tuple[str, ...], Flag("--architectures", "NAMES")] = ()
    """Try these alone, by commas; by default all."""

    @field_validator("settings", mode="before")
    @classmethod
    def _as_list(cls, given: Any) -> Any:  # noqa: ANN401
        return [given] if isinstance(given, str) else given

    @field_validator("only", "architectures", mode="before")
    @classmethod
    def _parts(cls, given: Any) -> Any:  # noqa: ANN401
        """Take text as what stands between its commas, and so every text of a list."""
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list | tuple) or not all(isinstance(t, str) for t in texts):
            return given
        return [part.strip() for text in texts for part in text.split(",")]

"""The schema of `report.json`: the types of what is read later, and a check that all of it can be stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aiida_e3relax.common.messages import printable
from aiida_e3relax.common.strict_json import parse_json

SCHEMA = 1

Count = Annotated[int, Field(strict=True, ge=0)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Text = Annotated[str, Field(strict=True)]
Word = Annotated[str, Field(strict=True, min_length=1)]


class _Part(BaseModel):
    """A part of the report; keys that nothing reads may stand beside."""

    model_config = ConfigDict(extra='allow', frozen=True)


class _Opinion(_Part):
    """What a potential says of one structure, or did to it: its numbers, or why there are none."""

    error: Text | None = None
    input_error: Text | None = None
    energy_input_eV_per_atom: Finite | None = None  # noqa: N815
    energy_prediction_eV_per_atom: Finite | None = None  # noqa: N815
    wall_time_s: NotNegative | None = None

    @property
    def must_be_whole(self) -> bool:
        """Whether no error says why there are no numbers."""
        return self.error is None

    @model_validator(mode='after')
    def _has_numbers(self) -> Self:
        of_input = self.energy_input_eV_per_atom is not None or self.input_error is not None
        if self.must_be_whole and not (of_input and self.energy_prediction_eV_per_atom is not None):
            raise ValueError('expected `error`, or the energies of input and prediction')
        return self


class _Relaxation(_Opinion):
    """What a potential did to one structure, or why it did nothing."""

    volume_ratio: NotNegative | None = None  # all that there is of a crystal that was scaled
    max_force_prediction_eV_per_A: NotNegative | None = None  # noqa: N815
    converged: Annotated[bool, Field(strict=True)] | None = None
    steps: Count | None = None
    left_basin: Annotated[bool, Field(strict=True)] | None = None
    basin: list[Text] | None = None

    @property
    def must_be_whole(self) -> bool:
        """Whether neither an error nor a scaling says why there are no other numbers."""
        return self.error is None and self.volume_ratio is None

    @model_validator(mode='after')
    def _is_told(self) -> Self:
        needed = ('max_force_prediction_eV_per_A', 'converged', 'steps', 'left_basin', 'basin')
        missing = [name for name in needed if getattr(self, name) is None]
        if self.must_be_whole and missing:
            raise ValueError(f'expected `error`, or `{missing[0]}`')
        return self


class _Potential(_Part):
    """The potential of a run."""

    potential: Word
    start: Word
    steps: Count
    weights: Text | None = None


class _Example(_Part):
    """A crystal that the network was trained on, and the site that is most distant from it and all others."""

    label: Text
    formula: Text
    site: Count | None = None


class Row(_Part):
    """One structure; `ok`, or a word for what went wrong, and a message."""

    label: Word
    status: Word
    message: Text
    n_atoms: Count | None = None
    uncertainty_A: NotNegative | None = None  # noqa: N815
    distance_to_training: NotNegative | None = None
    unlike_training: Annotated[bool, Field(strict=True)] | None = None
    nearest_training: _Example | None = None
    second_opinion: _Opinion = Field(default=None)  # type: ignore[assignment]  # absent, or an opinion; null is neither
    potential: _Relaxation = Field(default=None)  # type: ignore[assignment]


class Error(_Part):
    """Why a run predicted nothing: a code word such as `no_device`, and a message."""

    code: Word
    message: Text


class _Model(_Part):
    content_hash: Word


class _Device(_Part):
    used: Word
    threads: Count | None = None


class Report(_Part):
    """The report of a run; what a run without an error always states must be there."""

    error: Error | None
    structures: list[Row] = []
    batches: list[list[Count]] = []
    model: _Model | None = None
    device: _Device = Field(default=None)  # type: ignore[assignment]
    timings_s: dict[str, NotNegative] = {}
    second_opinion: dict[str, Any] | None = None
    potential: _Potential | None = None

    @model_validator(mode='before')
    @classmethod
    def _is_whole(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            raise ValueError(f'expected an object, found {type(content).__name__}')
        if type(content.get('schema')) is not int or content['schema'] != SCHEMA:
            raise ValueError(f'expected `schema` {SCHEMA}, found {content.get("schema")!r:.40}')
        needed = ['error'] if content.get('error', 0) else ['error', 'structures', 'model', 'device', 'timings_s']
        if missing := [key for key in needed if key not in content]:
            raise ValueError(f'`{missing[0]}` is missing')
        return content

    @model_validator(mode='after')
    def _fits_together(self) -> Self:
        if self.error is None:
            if 'total' not in self.timings_s:
                raise ValueError('`timings_s`: `total` is missing')
            for row in self.structures:
                if row.status == 'ok' and not row.n_atoms:
                    raise ValueError(f'structure `{row.label}` is `ok`: expected `n_atoms`, found {row.n_atoms}')
        if self.error is None and self.model is None and (self.potential is None or self.potential.start != 'input'):
            raise ValueError('`model`: expected the model that predicted, found none')
        for key in ('second_opinion', 'potential'):
            if getattr(self, key) is None and any(key in row.model_fields_set for row in self.structures):
                raise ValueError(f'`{key}` is missing, but structures have one')
        return self


def parse_report(text: str) -> tuple[Report, dict[str, Any]]:
    """Return a report, checked, and all of it as plain values that any database stores.

    Characters that a terminal would obey stand as escapes in the texts.

    Raises ValueError, which says what was expected and found.
    """
    content = _shown(parse_json(text))
    try:
        return Report.model_validate(content), content
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise ValueError(_explain(first['loc'], first['msg'], first['input'])) from error


def _explain(place: Iterable[int | str], message: str, found: Any) -> str:
    """Return in one line what is wrong at a place of the report."""
    where = '.'.join(str(part) for part in place)
    told = message.removeprefix('Value error, ')
    told = told[:1].lower() + told[1:]
    if isinstance(found, dict):
        return f'`{where}`: {told}' if where else told
    return f'`{where or "the report"}`: {told}, found {found!r:.60}'


def _shown(value: Any) -> Any:
    """Return a value with printable texts."""
    if isinstance(value, dict):
        return {key: _shown(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_shown(entry) for entry in value]
    return printable(value) if isinstance(value, str) and not value.isprintable() else value

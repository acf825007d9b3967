"""Labels: which of a list a text means, with case and punctuation forgiven.

Two texts are the same label when they are equal after this: Unicode case folding; quotes,
brackets, markdown marks, sentence ends and white space around them taken away; white space,
underscores and hyphens between words alike. Signs that can make a label (+ # % / & = -) stay, so
`C`, `C++` and `C#` are three labels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gptflow.pipeline.extract.invalid import BadExtractor, Invalid, listed, shown

_AROUND = (
    " \t\r\n\u3000\ufeff\u200b"
    "\"'`.,:;!?()[]{}<>*_~"
    "“”‘’«»‹›„…"  # noqa: RUF001  # these very characters are meant
    "。，、！？；：「」『』（）【】《》〈〉"  # noqa: RUF001  # likewise
)
_SEPARATOR = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W_])")


def normalised(text: str) -> str:
    """The form in which labels are compared."""
    folded = text.casefold().strip()
    return _SEPARATOR.sub(" ", folded.strip(_AROUND) or folded)


class LabelSet:
    """The labels that are valid, as the spec writes them."""

    __slots__ = ("_by_form", "labels")

    def __init__(self, labels: Sequence[str], key: str) -> None:
        """Take labels from the key `key` of the extractor; BadExtractor if they cannot serve."""
        if not labels:
            raise BadExtractor("there are no labels", key, hint="list at least one")
        self.labels = tuple(labels)
        self._by_form: dict[str, str] = {}
        for index, label in enumerate(labels):
            form = normalised(label)
            if not form:
                raise BadExtractor("a label is empty", key, path=(index,))
            twin = self._by_form.setdefault(form, label)
            if twin is not label or label in labels[:index]:
                raise _alike(twin, label, key, index)

    def __str__(self) -> str:
        return listed(list(self.labels))

    def match(self, name: str, text: str) -> str:
        """The label that `text` is, as the spec writes it; `name` stands in the message."""
        label = self._by_form.get(text) or self._by_form.get(normalised(text))
        if label is None:
            raise Invalid(f"{name} is {shown(text)}, expected one of {self}")
        return label


def _alike(first: str, second: str, key: str, index: int) -> BadExtractor:
    if first == second:
        return BadExtractor(f"the label {first!r} is listed twice", key, path=(index,))
    return BadExtractor(
        f"the labels {first!r} and {second!r} differ only in case or punctuation",
        key,
        path=(index,),
        hint="both are forgiven in replies, so the two could not be told apart; rename one",
    )

"""The extractor `choice`: the one label that the reply names."""

from __future__ import annotations

import re
from typing import Any

from gptflow.pipeline.extract.convert import Conversion
from gptflow.pipeline.extract.invalid import Invalid, listed, shown
from gptflow.pipeline.extract.label import LabelSet, normalised
from gptflow.pipeline.extract.reply_text import ReplyText

# A letter or digit of a script that puts spaces between words. In the others (Thai, Lao, Burmese,
# Khmer, Chinese, Japanese) a label may stand anywhere; and a Latin label may follow them directly.
_WORD = r"[^\W_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u31ff\u3400-\u9fff\uf900-\ufaff]"
_STARTS_WORD = re.compile(_WORD)
_ENDS_WORD = re.compile(rf"{_WORD}\Z")


class FromChoice:
    """Gives the label that the reply names, as the spec writes it.

    A label counts where it stands as words of their own, anywhere in the reply, in any case; the
    underscores and hyphens that join a word to others ("non-positive") make it another word. Of
    labels that overlap ("very positive" and "positive") the longer one counts. The same label
    may be named often; two different ones are invalid, except that a label of one letter must then
    stand in its own case, so that "B, since a ..." names B and not A. Meaning is not read: "not
    positive" names positive.
    """

    def __init__(self, labels: LabelSet, conversion: Conversion) -> None:
        self.conversion = conversion
        self.fields = (conversion.name,)
        self.labels = labels
        by_form = {normalised(label): label for label in labels.labels}
        longest_first = sorted(by_form, key=len, reverse=True)
        self._by_group = ("", *(by_form[form] for form in longest_first))
        self._letters = {
            group: next(letter for letter in by_form[form] if letter.casefold() == form)
            for group, form in enumerate(longest_first, start=1)
            if len(form) == 1
        }
        # The look-ahead passes over most characters without trying each label.
        initials = "".join(re.escape(form[0]) for form in longest_first)
        alternatives = "|".join(f"({_as_pattern(form)})" for form in longest_first)
        self._pattern = re.compile(f"(?=[{initials}])(?:{alternatives})")

    def extract(self, reply: ReplyText) -> dict[str, Any]:
        """The field's value."""
        text = reply.searchable
        named = self._named(text)
        if len(named) == 1:
            return {self.fields[0]: self.conversion(named[0])}
        if named:
            raise Invalid(f"the reply names {_both(named)}, expected one of {self.labels}")
        raise Invalid(f"the reply is {shown(text, 40)}, expected one of {self.labels}")

    def wants(self) -> str:
        """What a valid reply is."""
        return f"one of {self.labels}"

    def _named(self, text: str) -> list[str]:
        """The labels in the text, each once, in the order in which they are first named."""
        # Folded as the labels are, and not by re.I, for which ß and SS are two words. `re` will
        # do: the pattern is ours, and takes time in proportion to the text.
        folded = text.casefold()
        groups = [(m.lastindex or 0, m.start()) for m in self._pattern.finditer(folded)]
        named = dict.fromkeys(group for group, _ in groups)
        if len(named) > 1 and self._letters and len(folded) == len(text):
            in_case = [g for g, start in groups if self._letters.get(g, text[start]) == text[start]]
            named = dict.fromkeys(in_case) or named
        return [self._by_group[group] for group in named]


def _both(labels: list[str]) -> str:
    return f"both {' and '.join(labels)}" if not labels[2:] else listed(labels)


def _as_pattern(form: str) -> str:
    """The label with any separators between its words, and with the ends of a word at its ends."""
    pattern = r"[\s_-]+".join(re.escape(word) for word in form.split(" "))
    # The digits and signs: 4 is not named by 4.5.
    if _STARTS_WORD.match(form):
        pattern = rf"(?<!{_WORD})(?<!{_WORD}[_-])(?<!{_WORD}[_-][_-])(?<!\d[.,]){pattern}"
    if _ENDS_WORD.search(form):
        pattern = rf"{pattern}(?![_-]{{0,2}}{_WORD})(?![.,]\d)"
    return pattern

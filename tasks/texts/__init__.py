"""Texts and language models: what a model is pretrained on, and what it is fine-tuned on.

`names()` lists the texts, one file each that defines `TEXT`, a function that returns a str; any text file in UTF-8 is
one too, by its path. `load(text, language, length)` turns it into sequences of tokens for a language model, which
`language(model)` makes: "gpt", or a GPT-2 of KerasHub by the name or the folder of its preset.

```python
language = texts.language("gpt")
prose = texts.load("prose", language, length=128)
model = language.build(128)  # int32 tokens (sequences, 128) -> logits (sequences, 128, language.vocabulary)
```
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine import variants
from tasks.texts._models import Language, check_options, language, one_position

__all__ = ["Language", "LoadedText", "check_options", "language", "load", "names", "one_position", "read"]

HELD_OUT = 0.1


class LoadedText(NamedTuple):
    """A text as tokens.

    Attributes:
        name: str. Of the text, or of its file.
        digest: str. Of its characters: the standard library's differ from one Python to the next.
        length: int. Of a sequence.
        train: int32 array (tokens,).
        held_out: int32 array (tokens,): the last tenth.
    """

    name: str
    digest: str
    length: int
    train: np.ndarray
    held_out: np.ndarray

    def draw(self, sequences, random):
        """Draw sequences from anywhere in the training part.

        Args:
            sequences: int.
            random: numpy.random.Generator. Decides where they begin.

        Returns:
            x: int32 array (sequences, length).
            y: int32 array (sequences, length). What comes next at each place.
        """
        starts = random.integers(0, len(self.train) - self.length, sequences)
        return _sequences(self.train, starts, self.length)

    def evaluated(self, sequences):
        """Return up to so many sequences of the held-out part, evenly spread: x and y as `draw` returns them."""
        starts = np.arange(0, len(self.held_out) - self.length, self.length)
        chosen = np.linspace(0, len(starts) - 1, min(sequences, len(starts))).round().astype(int)
        return _sequences(self.held_out, starts[chosen], self.length)


def names():
    """List the texts, sorted: the names of the files in this folder."""
    return variants.names(__name__)


def read(text):
    """Read a text.

    Args:
        text: str or path. One of `names()`, or a text file in UTF-8.

    Returns:
        str.

    Raises:
        FileNotFoundError: neither a text nor a file.
        ValueError: an empty file, or one that is not UTF-8.
    """
    if str(text) in names():
        return variants.load(__name__, str(text), "TEXT")()
    path = Path(text)
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected one of the texts {', '.join(names())}, or the path of a text file; received {str(text)!r}, "
            "which is neither."
        )
    try:
        found = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected a text in UTF-8, received {path}, whose byte {error.start} ({error.object[error.start]:#04x}) "
            "is none. Convert it first, for instance with iconv."
        ) from error
    if not found.strip():
        raise ValueError(f"Expected a text, received {path}, in which there is none.")
    return found


def load(text, language, length):
    """Read a text as tokens.

    Args:
        text: str or path. As for `read`.
        language: Language. Whose tokens.
        length: int. Of a sequence.

    Returns:
        LoadedText.

    Raises:
        FileNotFoundError, ValueError: as `read` raises; a text too short for a sequence, a sequence too long for the
            language model.
    """
    language.check(length)
    characters = read(text)
    tokens = np.asarray(language.encode(characters), "int32")
    kept = round(len(tokens) * (1 - HELD_OUT))
    if len(tokens) - kept <= length or kept <= length:
        raise ValueError(
            f"Expected a text whose last tenth is longer than a sequence of {length} tokens, received {str(text)!r} "
            f"with {len(tokens)} tokens in all. Use a longer text, or a smaller sequence_length."
        )
    digest = hashlib.sha256(characters.encode()).hexdigest()[:16]
    return LoadedText(Path(text).stem, digest, length, tokens[:kept], tokens[kept:])


def _sequences(tokens, starts, length):
    found = tokens[starts[:, None] + np.arange(length + 1)]
    return found[:, :-1], found[:, 1:]

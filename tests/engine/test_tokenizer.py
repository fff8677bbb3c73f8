"""Text to token ids: padding, cutting off, readable pieces, and files that are not what they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from calotype.errors import BundleError, RequestError
from calotype.tokenizer import Tokenizer
from tests.engine.clip import END, START, vocabulary, write

IDS, _ = vocabulary()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(*write(tmp_path_factory.mktemp("tokenizer"), max_length=8))


def test_a_text_stands_between_start_and_end_and_is_padded(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("a painting")
    assert tokens.ids.tolist() == [IDS[START], IDS["a</w>"], IDS["painting</w>"], *[IDS[END]] * 5]
    assert (tokens.ids.dtype, tokens.count, tokens.truncated) == (np.int64, 2, "")


def test_padding_is_the_checkpoints_pad_token(tmp_path: Path) -> None:
    padded = Tokenizer.load(*write(tmp_path, max_length=8, pad="!")).encode("a")
    assert padded.ids.tolist() == [IDS[START], IDS["a</w>"], IDS[END], *[IDS["!"]] * 5]


def test_an_empty_text_is_start_end_and_padding(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("")
    assert tokens.ids.tolist() == [IDS[START], *[IDS[END]] * 7]
    assert (tokens.count, tokens.truncated) == (0, "")


def test_what_fits_exactly_is_not_cut(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("a a a a a a")
    assert (tokens.count, tokens.truncated) == (6, "")


def test_what_has_no_room_is_given_back_as_it_was_written(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("a a  a a A a Flooble,\tthe  CAT")
    assert tokens.ids.tolist() == [IDS[START], *[IDS["a</w>"]] * 6, IDS[END]]
    assert (tokens.count, tokens.truncated) == (6, "Flooble,\tthe  CAT")


def test_a_cut_inside_a_character_gives_back_the_whole_character(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("a a a a a 🦕 cat").truncated == "🦕 cat"


def test_pieces_cover_the_whole_text_and_can_be_read(tokenizer: Tokenizer) -> None:
    pieces = tokenizer.pieces("a painting of the flooble café")
    assert [piece for piece, _ in pieces] == [
        START, "a</w>", "painting</w>", "of</w>", "the</w>", "flooble</w>", "ca", "f", "Ã", "©</w>", END,
    ]  # fmt: skip
    assert pieces[5] == ("flooble</w>", IDS["flooble</w>"])


def test_cutting_and_padding_that_a_tokenizer_was_saved_with_do_not_count(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    paths = write(tmp_path, max_length=8)
    saved = tokenizers.Tokenizer.from_file(str(paths[0]))
    saved.enable_truncation(4)
    saved.save(str(paths[0]))
    cutting = Tokenizer.load(*paths)
    saved.no_truncation()
    saved.enable_padding(length=3, pad_id=IDS["cat</w>"], pad_token="cat</w>")
    saved.save(str(paths[0]))
    padding = Tokenizer.load(*paths)
    for text in ("", "a", "a a a a a a a cat"):
        expected = tokenizer.encode(text)
        for found in (cutting, padding):
            assert found.encode(text).ids.tolist() == expected.ids.tolist()
            assert found.encode(text).truncated == expected.truncated
            assert found.pieces(text) == tokenizer.pieces(text)


@pytest.mark.parametrize("text", [None, 7, b"cat", "\ud800"])
def test_what_is_no_text_is_named(tokenizer: Tokenizer, text: Any) -> None:
    with pytest.raises(RequestError, match="prompt: expected text, found"):
        tokenizer.encode(text)


@pytest.mark.parametrize("content", [None, "", "{}", '{"version": "1.0"', "\x00"])
def test_a_damaged_tokenizer_is_named(tmp_path: Path, content: str | None) -> None:
    paths = write(tmp_path)
    paths[0].unlink() if content is None else paths[0].write_text(content, "utf-8")
    with pytest.raises(BundleError, match=r"tokenizer\.json: this is no tokenizer"):
        Tokenizer.load(*paths)


def test_a_tokenizer_that_adds_no_start_and_end_is_refused(tmp_path: Path) -> None:
    paths = write(tmp_path)
    made = json.loads(paths[0].read_text("utf-8"))
    paths[0].write_text(json.dumps({**made, "post_processor": None}), "utf-8")
    with pytest.raises(
        BundleError, match=r"expected start and end for an empty text, \[\d+, \d+\], found \[\]"
    ):
        Tokenizer.load(*paths)


@pytest.mark.parametrize("content", [None, "{", "\x00"])
def test_settings_that_cannot_be_read_are_named(tmp_path: Path, content: str | None) -> None:
    paths = write(tmp_path)
    paths[1].unlink() if content is None else paths[1].write_text(content, "utf-8")
    with pytest.raises(
        BundleError, match=r"tokenizer_config\.json: the tokenizer's settings could not be read"
    ):
        Tokenizer.load(*paths)


@pytest.mark.parametrize("content", ["[]", '{"bos_token_id": 1, "eos_token_id": "two"}'])
def test_settings_without_the_numbers_are_named(tmp_path: Path, content: str) -> None:
    paths = write(tmp_path)
    paths[1].write_text(content, "utf-8")
    with pytest.raises(
        BundleError, match=r"expected whole numbers bos_token_id, .*; found \{.*'eos_token_id'"
    ):
        Tokenizer.load(*paths)


def test_a_truth_value_is_no_number_of_the_settings(tmp_path: Path) -> None:
    paths = write(tmp_path)
    config = json.loads(paths[1].read_text("utf-8"))
    paths[1].write_text(json.dumps({**config, "pad_token_id": True}), "utf-8")
    with pytest.raises(BundleError, match=r"expected whole numbers .*; found \{'pad_token_id': True\}"):
        Tokenizer.load(*paths)


@pytest.mark.parametrize("length", [8, int(1e30)])
def test_another_length_than_the_programs_is_refused(tmp_path: Path, length: int) -> None:
    paths = write(tmp_path, max_length=length)
    with pytest.raises(BundleError, match=rf"model_max_length: expected 77, the tokens .*, found {length}"):
        Tokenizer.load(*paths, 77)
    assert Tokenizer.load(*write(tmp_path, max_length=77), 77).max_length == 77

"""Records, the journal and the lines that people read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from restorepix.errors import ExitCode, WriteError
from restorepix.report import (
    Failure,
    Journal,
    JournalEntry,
    Result,
    build_summary,
    choose_exit_code,
    encode_json,
    read_schema,
    render_failure,
    render_result,
    render_summary,
    show_name,
    show_share,
)

DIGEST = "0" * 64
RESTORED = Result(
    input="photos/a.jpg",
    output="out/a.jpg",
    status="restored",
    review=("look",),
    holes=2,
    hole_pixels=24,
    hole_share=0.03,
    method="inpainted",
    preserved="coefficients",
    known_sha256=DIGEST,
    mask_sha256=DIGEST,
    weights_sha256=DIGEST,
    device="cpu",
    seconds={"read": 0.123456, "inpaint": 1.5},
    bytes_in=100,
    bytes_out=101,
)
FAILED = Result(
    input="photos/b.jpg",
    output="out/b.jpg",
    status="failed",
    error=Failure("unreadable", "photos/b.jpg: truncated. Fetch it again."),
)
ENTRY = JournalEntry("a.jpg", {"dilate": 0}, DIGEST, DIGEST, DIGEST, "2026-01-01", "2026-01-02")
INTERFACE = [
    "schema", "input", "output", "status", "review", "error", "holes", "hole_pixels", "hole_share",
    "detected", "method", "preserved", "known_sha256", "mask_sha256", "weights_sha256", "version",
    "device", "seconds", "bytes_in", "bytes_out",
]  # fmt: skip


@pytest.mark.parametrize("result", [RESTORED, FAILED])
def test_the_record_has_the_fields_of_the_interface_in_their_order(result):
    record = result.to_record()
    assert list(record) == INTERFACE
    jsonschema.validate(record, read_schema())
    again = Result.from_record(json.loads(encode_json(record)))
    assert again == replace(result, seconds={k: round(v, 4) for k, v in result.seconds.items()})


def test_the_schema_refuses_what_is_no_record():
    good = RESTORED.to_record()
    jsonschema.Draft202012Validator.check_schema(read_schema())
    for change in (
        {"status": "done"},
        {"known_sha256": "abc"},
        {"hole_share": 1.5},
        {"status": "failed"},
        {"error": {"code": "x", "message": "y"}},
        {"extra": 1},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(good | change, read_schema())
    for name in INTERFACE:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({k: v for k, v in good.items() if k != name}, read_schema())


def test_names_that_are_no_valid_unicode_survive_json():
    name = b"caf\xe9\n.jpg".decode("utf-8", "surrogateescape")
    line = encode_json({"input": name})
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line) == {"input": name}


def test_the_journal_remembers_what_was_done(tmp_path):
    journal = Journal(tmp_path / "out")
    assert journal.find_done("a.jpg") is None
    assert not (tmp_path / "out").exists()
    journal.append(RESTORED, ENTRY)
    journal.append(FAILED, replace(ENTRY, key="b.jpg"))
    journal.append(replace(RESTORED, status="skipped"), ENTRY)
    for reader in (journal, Journal(tmp_path / "out")):
        done = reader.find_done("a.jpg")
        assert done is not None
        assert done[0].status == "restored"
        assert done[1] == ENTRY
        assert reader.find_done("b.jpg") is None
    lines = journal.path.read_text().splitlines()
    assert len(lines) == 3
    for line in lines:
        jsonschema.validate(json.loads(line), read_schema())


def test_the_last_entry_of_an_output_counts(tmp_path):
    journal = Journal(tmp_path)
    journal.append(RESTORED, ENTRY)
    journal.append(RESTORED, replace(ENTRY, input_sha256="1" * 64))
    done = Journal(tmp_path).find_done("a.jpg")
    assert done is not None
    assert done[1].input_sha256 == "1" * 64


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_torn_line_costs_only_itself(tmp_path, cut):
    journal = Journal(tmp_path)
    journal.append(RESTORED, ENTRY)
    journal.append(RESTORED, replace(ENTRY, key="torn.jpg"))
    journal.path.write_bytes(journal.path.read_bytes()[:-cut])
    again = Journal(tmp_path)
    again.append(RESTORED, replace(ENTRY, key="next.jpg"))
    read = Journal(tmp_path)
    assert read.find_done("a.jpg")
    assert read.find_done("next.jpg")
    assert (read.find_done("torn.jpg") is not None) == (cut == 1)  # only its newline was lost


@pytest.mark.parametrize(
    "junk", [b"\xff\xfe\n", b"[]\n", b"{}\n", b'{"journal":{"key":1}}\n', b"1"]
)
def test_junk_in_the_journal_is_passed_over(tmp_path, junk):
    journal = Journal(tmp_path)
    journal.append(RESTORED, ENTRY)
    journal.path.write_bytes(junk + journal.path.read_bytes() if junk != b"1" else b"1")
    Journal(tmp_path).append(RESTORED, ENTRY)
    assert Journal(tmp_path).find_done("a.jpg")


def test_a_journal_that_cannot_be_written_stops_the_run(tmp_path):
    (tmp_path / ".restorepix").write_text("a file in the way")
    with pytest.raises(WriteError, match="journal"):
        Journal(tmp_path).append(RESTORED, ENTRY)


def test_the_summary_counts_and_fits_its_schema():
    results = [RESTORED, FAILED, replace(RESTORED, status="skipped"), RESTORED]
    summary = build_summary(results, 1.23456, ExitCode.SOME_FAILED)
    assert summary["summary"] | {"version": ""} == {
        "schema": 1,
        "inputs": 4,
        "restored": 2,
        "unchanged": 0,
        "skipped": 1,
        "failed": 1,
        "review": 3,
        "holes": 4,
        "exit_code": 1,
        "version": "",
        "seconds": 1.2346,
    }
    schema = read_schema()
    jsonschema.validate(summary, {"$ref": "#/$defs/summary", "$defs": schema["$defs"]})


def test_exit_codes():
    fault = replace(FAILED, error=Failure("internal", "x"))
    assert choose_exit_code([]) == ExitCode.OK
    assert choose_exit_code([RESTORED]) == ExitCode.OK
    assert choose_exit_code([RESTORED, FAILED]) == ExitCode.SOME_FAILED
    assert choose_exit_code([fault, FAILED]) == ExitCode.INTERNAL


def test_lines_for_people():
    line = render_result(RESTORED).plain
    assert line.startswith("restored   photos/a.jpg -> out/a.jpg")
    assert "2 holes" in line
    assert "3 % of the picture" in line
    assert "look at it: look" in line
    assert render_result(FAILED).plain == "failed     photos/b.jpg"
    assert render_failure(FAILED).plain == "  photos/b.jpg: truncated. Fetch it again."
    for message, shown in {
        "photos/b.jpg, page 2: odd.": "photos/b.jpg, page 2: odd.",
        "photos/b.jpg.png: odd.": "photos/b.jpg: photos/b.jpg.png: odd.",
    }.items():
        failed = replace(FAILED, error=Failure("unsupported", message))
        assert render_failure(failed).plain == f"  {shown}"
    assert render_summary([RESTORED, FAILED], 2).plain == (
        "2 photographs: 1 restored, 1 failed in 2.0 s"
    )
    assert render_summary([], 0).plain == "no pictures found: nothing to do"
    larger = replace(RESTORED, preserved="lossless-rewrite")
    assert "larger" in render_result(larger).plain
    assert "differ slightly" in render_result(replace(RESTORED, preserved="reencoded")).plain


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0 %"),
        (0.00012, "0.012 %"),
        (0.0999, "10 %"),
        (0.43, "43 %"),
        (0.994, "99 %"),
        (0.9999, "over 99 %"),
        (1, "100 %"),
    ],
)
def test_shares_are_shown_in_plain_numbers(share, shown):
    assert show_share(share) == shown
    assert f", {shown} of the picture" in render_result(replace(RESTORED, hole_share=share)).plain


def test_names_cannot_steer_the_terminal_or_the_markup():
    assert show_name("a\x1b[31m\n\udce9ü.jpg") == "a\\x1b[31m\\n\\udce9ü.jpg"
    odd = replace(RESTORED, input="[bold]x[/bold]\x1b.jpg")
    assert "[bold]x[/bold]\\x1b.jpg" in render_result(odd).plain


def test_the_schema_is_a_file_of_the_package():
    import restorepix

    assert (Path(restorepix.__file__).parent / "schema" / "record.schema.json").is_file()


def test_a_wish_for_a_look_is_told_by_the_exit_code_only_when_asked():
    wants_look = replace(RESTORED, review=("look",))
    calm = replace(RESTORED, review=())
    assert choose_exit_code([wants_look]) == ExitCode.OK
    assert choose_exit_code([calm], fail_on_review=True) == ExitCode.OK
    assert choose_exit_code([calm, wants_look], fail_on_review=True) == ExitCode.REVIEW
    assert choose_exit_code([wants_look, FAILED], fail_on_review=True) == ExitCode.SOME_FAILED

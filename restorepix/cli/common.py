"""What every command shares: option aliases, the way errors are reported, and the console.

An option that several commands take is an alias here, so that its name, help and panel are the
same everywhere. Commands use it as ``device: Device = DEFAULTS.device``.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from restorepix import __version__
from restorepix.cli import streams
from restorepix.cli.catalogue import list_commands
from restorepix.cli.settings import Settings, find_settings, read_settings
from restorepix.cli.streams import guard_stdout, write_line
from restorepix.errors import ExitCode, RestorepixError, UsageError
from restorepix.options import RestoreOptions

if TYPE_CHECKING:
    from rich.text import Text

    from restorepix.cli.console import StderrConsole

STDIO = "-"
"""Input and output that mean stdin and stdout."""

DEFAULTS = RestoreOptions()
"""Where commands take the defaults of their options from."""

INPUTS = "Inputs"
OUTPUTS = "Outputs"
NETWORK = "Network"
REPORT = "Report"


class _State:
    """What eager options set up before their command begins."""

    log: streams.LogFile | None = None
    settings: Settings | None = None
    context: typer.Context | None = None
    """The command's, when there is a settings file."""
    set_flags: Mapping[str, tuple[str, str]] = MappingProxyType({})
    """Flags that the settings file has, to their parameter and to the place in the file."""


_state = _State()


def _open_log(path: Path | None) -> Path | None:
    """Open the log file of this call; the one of an earlier call in this process is closed."""
    if _state.log is not None:
        _state.log.close()
        _state.log = None
    if path is not None:
        try:
            _state.log = streams.LogFile(path)
        except OSError as error:
            _refuse(f"--log-file {path}: cannot be written: {error.strerror or error}.")
    return path


def _load_settings(context: typer.Context, path: Path | None) -> Path | None:
    """Read the settings file, whose values become defaults of the command's options."""
    found = find_settings(path)
    _state.settings = _state.context = None
    if found is not None:
        root = context.find_root()
        commands = list_commands(root.command, root)
        try:
            _state.settings = read_settings(found, commands, is_named=path is not None)
        except UsageError as error:
            _refuse(str(error))
        name = context.command_path.removeprefix(root.command_path).strip()
        options = next(info.keys for info in commands if info.path == name)
        values = _state.settings.values.get(name, {})
        context.default_map = {options[key].name: value for key, value in values.items()}
        _state.context = context
        _state.set_flags = {
            flag: (options[key].name, f"{key} in {found}")
            for key in values
            for flag in options[key].flags
        }
    return path


def _refuse(message: str) -> NoReturn:
    """Say why an option cannot be used before its command begins, and end."""
    build_console().print(build_error(message), soft_wrap=True)
    raise typer.Exit(ExitCode.USAGE)


def get_settings() -> Settings | None:
    """Return the settings file that this call has read, if any."""
    return _state.settings


Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        help="Pictures, and folders of them (always with their subfolders); "
        "[bold]-[/bold] reads one picture from stdin, and the result goes to stdout.",
        show_default=False,
    ),
]
Pictures = Annotated[
    list[str] | None,
    typer.Argument(
        help="Pictures, and folders of them (always with their subfolders).",
        show_default=False,
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        "-m",
        help="A mask for all, or a folder of masks: for sub/a.jpg it is sub/a.jpg.png, "
        "sub/a.png or sub/a_mask.png. White is repainted.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder to write the same tree into, or the output file for one picture. "
        "Default: photos-restored/ beside photos/, a-restored.jpg beside a.jpg.",
        show_default=False,
    ),
]
Dilate = Annotated[int, typer.Option(metavar="PX", help="Grow the holes by so many pixels.")]

FilesFrom = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|-",
        help="Read more inputs from a file or stdin, one a line.",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "-0", help="--files-from is separated by NUL (find -print0).", rich_help_panel=INPUTS
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        help="In folders, take only names that match; repeatable. With a slash the path "
        "below the folder is matched.",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        help="In folders, leave out files and folders that match; repeatable.",
        rich_help_panel=INPUTS,
        show_default=False,
    ),
]
FollowLinks = Annotated[
    bool,
    typer.Option("--follow-links", help="Walk into linked folders too.", rich_help_panel=INPUTS),
]
MaxMpixels = Annotated[
    float,
    typer.Option(
        metavar="N", help="Refuse pictures with more million pixels.", rich_help_panel=INPUTS
    ),
]

To = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="Change the format to png, jpg, tiff or webp; by default each file keeps its own.",
        rich_help_panel=OUTPUTS,
        show_default=False,
    ),
]
AcceptReencode = Annotated[
    bool,
    typer.Option(
        "--accept-reencode",
        help="Encode lossy WebP, AVIF and HEIC lossy again: smaller, but known pixels change.",
        rich_help_panel=OUTPUTS,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Repair detected damage even where it covers more than a quarter of the picture.",
        rich_help_panel=OUTPUTS,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with a run: make outputs again whose picture, mask, options or weights "
        "changed since, and do not try again what cannot be restored.",
        rich_help_panel=OUTPUTS,
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        help="Like --resume, and try again whatever failed.",
        rich_help_panel=OUTPUTS,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace outputs that exist. Originals are never replaced.",
        rich_help_panel=OUTPUTS,
    ),
]
InPlace = Annotated[
    bool,
    typer.Option(
        "--in-place",
        help="Give restored files the place of their originals, which go to a backup tree "
        "first; restorepix undo puts them back.",
        rich_help_panel=OUTPUTS,
    ),
]
Backup = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The backup tree of --in-place. Default: photos-originals/ beside photos/.",
        rich_help_panel=OUTPUTS,
        show_default=False,
    ),
]
Strip = Annotated[
    bool,
    typer.Option(
        "--strip",
        help="Drop private metadata (EXIF, place, maker notes, XMP, IPTC, comments, "
        "thumbnails, sidecars); profile, orientation and resolution stay. Pictures without "
        "holes lose it too.",
        rich_help_panel=OUTPUTS,
    ),
]
Provenance = Annotated[
    bool,
    typer.Option(
        "--provenance/--no-provenance",
        help="Add a line on the repair to the XMP edit history of restored files.",
        rich_help_panel=OUTPUTS,
    ),
]
PreserveTimes = Annotated[
    bool,
    typer.Option(
        "--preserve-times/--no-preserve-times",
        help="Give outputs the file times of their inputs.",
        rich_help_panel=OUTPUTS,
    ),
]

Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda[:N]|mps",
        help="Where the network runs; a device that is named is never replaced by another. "
        "Several, as in cuda:0,cuda:1, share the pictures.",
        rich_help_panel=NETWORK,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        "--model",
        metavar="FILE|NAME",
        help="A safetensors file, or a model of restorepix models list, in place of the bundled "
        "weights.",
        rich_help_panel=NETWORK,
        show_default=False,
    ),
]
Download = Annotated[
    bool,
    typer.Option(
        "--download/--no-download",
        help="Fetch a model that is not on this machine.",
        rich_help_panel=NETWORK,
    ),
]
WeightsRepo = Annotated[
    str | None,
    typer.Option(
        metavar="OWNER/NAME[@REVISION]",
        help="The Hugging Face repository to fetch models from; default: "
        "RESTOREPIX_WEIGHTS_REPO, else the one of this version.",
        rich_help_panel=NETWORK,
        show_default=False,
    ),
]
Texture = Annotated[
    str,
    typer.Option(
        metavar="auto|off",
        help="Give wide repairs the fine structure of the picture around them, where the network's "
        "answer lacks it.",
        rich_help_panel=NETWORK,
    ),
]
Grain = Annotated[
    str,
    typer.Option(
        metavar="auto|off",
        help="Give repaired pixels the grain of the picture around them; a picture without grain "
        "gets none.",
        rich_help_panel=NETWORK,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Parts of one picture that a CPU works on at a time; default: the cores that --jobs "
        "leaves.",
        rich_help_panel=NETWORK,
        show_default=False,
    ),
]

Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the network when the first hole comes, which takes minutes and pays for "
        "large folders (docs/throughput.md). Needs a C++ compiler.",
        rich_help_panel=NETWORK,
    ),
]

Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        metavar="N",
        help="Pictures in hand at a time; default: one per core. Results are the same.",
        rich_help_panel=NETWORK,
        show_default=False,
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="local|ray",
        help="Work on this machine, or on a Ray cluster.",
        rich_help_panel=NETWORK,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT|auto",
        help="The Ray cluster; default: RAY_ADDRESS, else one of this machine alone.",
        rich_help_panel=NETWORK,
        show_default=False,
    ),
]
GpuShare = Annotated[
    float,
    typer.Option(
        metavar="0..1",
        help="With --engine ray, the share of a GPU that each copy of the network takes.",
        rich_help_panel=NETWORK,
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="Give up on a file that does not answer for so long (a lost network mount).",
        rich_help_panel=INPUTS,
    ),
]

Watch = Annotated[
    bool,
    typer.Option(
        "--watch",
        help="Stay, and restore what lands in the folder once it is complete, until Ctrl-C.",
        rich_help_panel=INPUTS,
    ),
]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and stop.", rich_help_panel=REPORT)
]
FailOnReview = Annotated[
    bool,
    typer.Option(
        "--fail-on-review",
        help="End with exit code 3 when nothing failed but a result wants a look.",
        rich_help_panel=REPORT,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON record a line to stdout, a summary last.",
        rich_help_panel=REPORT,
    ),
]
ShowAttention = Annotated[
    Path | None,
    typer.Option(
        "--show-attention",
        metavar="DIR",
        help="Draw where each hole took its content from, one picture a photograph "
        "(docs/how-it-works.md). Needs a model whose attention runs.",
        rich_help_panel=REPORT,
        show_default=False,
    ),
]
ReportPage = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        help="Write a page that shows every photograph before and after (docs/report.md).",
        rich_help_panel=REPORT,
        show_default=False,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print failures only.", rich_help_panel=REPORT)
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Print files that are passed over, masks and times too.",
        rich_help_panel=REPORT,
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", help="Stop at a fault of ours with its traceback.", rich_help_panel=REPORT
    ),
]


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Read settings from this file, not from restorepix.toml in the working directory. "
        "Flags win over it.",
        rich_help_panel=REPORT,
        show_default=False,
        is_eager=True,
        callback=_load_settings,
    ),
]
LogFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Add everything that is said, -q or not, to a file, with times.",
        rich_help_panel=REPORT,
        show_default=False,
        callback=_open_log,
    ),
]


class Talk:
    """What is said while a run goes on: records on stdout, lines and progress on stderr."""

    def __init__(
        self,
        *,
        quiet: bool,
        verbose: bool = False,
        as_json: bool = False,
        fail_on_review: bool = False,
    ) -> None:
        """Open the console on stderr."""
        self.console = build_console()
        self.fail_on_review = fail_on_review
        self.quiet = quiet
        self.verbose = verbose
        self.as_json = as_json

    def say(self, message: str | Text, *, detail: bool = False) -> None:
        """Print a line to stderr unless quiet; never wrapped, so that names stay whole.

        Args:
            message: text, or a string with rich's markup.
            detail: print it only when verbose.
        """
        if self.quiet or (detail and not self.verbose):
            self.console.log_only(message)
        else:
            self.console.print(message, soft_wrap=True)

    def emit(self, value: dict[str, Any]) -> None:
        """Print a JSON line to stdout when asked for."""
        if self.as_json:
            from restorepix.report import encode_json

            write_line(encode_json(value))


@contextmanager
def report_errors(debug: bool) -> Generator[None]:
    """Guard stdout, and turn errors into a sentence on stderr and an exit code.

    Args:
        debug: print the traceback too.

    Raises:
        typer.Exit: with the exit code of the error that ended the block.
    """
    log = _state.log
    if log is not None:
        log.write(f"restorepix {__version__} begins: {shlex.join(sys.argv[1:])}")
    code = ExitCode.OK
    try:
        with guard_stdout():
            yield
    except RestorepixError as error:
        code = _fail(f"{error}{_tell_origin(str(error))}", error.exit_code, debug)
    except KeyboardInterrupt:
        say_interrupted()
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        code = ExitCode.INTERRUPTED
    except typer.Exit as done:
        code = ExitCode(done.exit_code)
    except Exception as error:  # noqa: BLE001 - the last place that can turn it into a sentence
        message = (
            f"internal error: {type(error).__name__}: {error}. This is a fault of ours: run again "
            "with --debug and report what it prints."
        )
        code = _fail(message, ExitCode.INTERNAL, debug)
    finally:
        if log is not None:
            log.write(f"restorepix ends with exit code {int(code)}")
            log.close()
            _state.log = None
    if code is not ExitCode.OK:
        raise typer.Exit(code)


def say_interrupted(left: str = "") -> None:
    """Say that Ctrl-C was heard, and what is left to do."""
    with contextlib.suppress(BrokenPipeError):
        build_console().print(f"interrupted{left and ': '}{left}", soft_wrap=True)


def _tell_origin(message: str) -> str:
    """Return a sentence for a message that begins with an option which the settings file sets."""
    flag = re.match(r"-[\w-]+", message)
    if _state.context is None or flag is None or flag[0] not in _state.set_flags:
        return ""
    name, place = _state.set_flags[flag[0]]
    source = _state.context.get_parameter_source(name)
    return f" It is set by {place}." if getattr(source, "name", "") == "DEFAULT_MAP" else ""


def _fail(message: str, code: ExitCode, debug: bool) -> ExitCode:
    if _state.log is not None:
        _state.log.write(traceback.format_exc())
    if debug:
        traceback.print_exc()
    with contextlib.suppress(BrokenPipeError):
        build_console().print(build_error(message), soft_wrap=True)
    return code


def build_error(message: str) -> Text:
    """Return the line that tells of an error."""
    from rich.text import Text

    from restorepix.report import show_name

    return Text.assemble(("error: ", "bold red"), show_name(message))


def build_console() -> StderrConsole:
    """Return the console on stderr."""
    from restorepix.cli.console import StderrConsole

    return StderrConsole(_state.log)

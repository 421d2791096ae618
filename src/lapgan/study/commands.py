"""The commands of `lapgan study`, one short function each."""

import re
import secrets
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from lapgan.errors import LapganError, requires

__all__ = ["study_app"]

study_app = typer.Typer(
    help="The human study of the paper: real or fake?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

StudyFolder = Annotated[Path, typer.Argument(help="The study's folder.")]
Database = Annotated[
    str | None,
    typer.Option(help="SQLAlchemy URL. Default: answers.sqlite in the study's folder."),
]


@study_app.command("new")
def new(
    study: StudyFolder,
    real: Annotated[str, typer.Option(help="Real images: folder, npz, parquet or data source.")],
    source: Annotated[
        list[str], typer.Option(help="NAME=SOURCE: folder, npz, parquet or lapgan run. Repeatable.")
    ],
    recipe: Annotated[
        Path | None, typer.Option(help="study.toml. Default: the paper's design.")
    ] = None,
    crop: Annotated[
        int | None, typer.Option(help="Center crop in pixels, of every source.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the seed of study.toml.")] = None,
    split: Annotated[
        str, typer.Option(help="Split to draw from, where a source has several.")
    ] = "test",
) -> None:
    """Draws images and freezes them, with the design, in a new folder."""
    with _requires_extra():
        from lapgan.study.design import read_design
        from lapgan.study.stimuli import freeze

    changes = {key: value for key, value in (("crop", crop), ("seed", seed)) if value is not None}
    design = read_design(recipe, changes)
    frozen = freeze(study, design, real, _parse_sources(source), split)
    typer.echo(f"{study}: {len(frozen.manifest.stimuli)} images frozen.")
    typer.echo(f"Edit {study}/consent.txt, then run: lapgan study serve {study}")


@study_app.command("serve")
def serve(
    study: StudyFolder,
    host: Annotated[
        str, typer.Option(help="127.0.0.1: reachable from this machine only.")
    ] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    database: Database = None,
    public_url: Annotated[
        str | None, typer.Option(help="Address behind a proxy, for the QR code.")
    ] = None,
    trusted_proxy: Annotated[
        str | None,
        typer.Option(help="Address of the proxy whose X-Forwarded-* headers are trusted."),
    ] = None,
    admin_secret: Annotated[
        str | None,
        typer.Option(
            envvar="LAPGAN_STUDY_SECRET",
            help="At least 10 characters. Default: a new one at every start, which is printed.",
        ),
    ] = None,
    max_raters: Annotated[
        int, typer.Option(min=1, help="Number of raters at which nobody can join anymore.")
    ] = 1000,
    rate: Annotated[
        list[str] | None, typer.Option(help="KIND=LIMIT such as joins=600/minute. Repeatable.")
    ] = None,
) -> None:
    """Serves the study to raters' browsers until Ctrl-C."""
    with _requires_extra():
        from lapgan.study.serve import ServerConfig
        from lapgan.study.serve import serve as serve_study
        from lapgan.study.stimuli import load_study

    config = ServerConfig(
        admin_secret=admin_secret or secrets.token_urlsafe(12),
        host=host,
        port=port,
        public_url=public_url,
        trusted_proxy=trusted_proxy,
        rates=dict(_parse_pair(text, "rate") for text in rate or []),
        max_raters=max_raters,
        secret_is_new=not admin_secret,
    )
    serve_study(load_study(study), database, config)


@study_app.command("export")
def export(
    study: StudyFolder,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: STUDY/export.")] = None,
    database: Database = None,
) -> None:
    """Writes every answer as tidy CSV and JSON Lines, with a data dictionary."""
    with _requires_extra():
        from lapgan.study.export import export as export_rows
        from lapgan.study.stimuli import load_study
        from lapgan.study.store import Store

    frozen = load_study(study)
    store = Store(frozen, database)
    rows, progress = store.rows(), store.progress()
    for path in export_rows(rows, out or study / "export", progress, frozen.design):
        typer.echo(str(path))
    store.close()


@study_app.command("texts")
def texts(
    language: Annotated[str, typer.Argument(help="One that the package has: de, en.")],
    out: Annotated[Path, typer.Argument(help="The new file, which ends in .toml.")],
) -> None:
    """Copies the texts that raters see, to change or to translate them."""
    with _requires_extra():
        from lapgan.study.texts import copy_texts

    copy_texts(language, out)
    typer.echo(f'{out}: edit it, then write language = "{out}" into study.toml.')


@study_app.command("backup")
def backup(
    study: StudyFolder,
    out: Annotated[Path, typer.Argument(help="The copy, a new SQLite file.")],
    database: Database = None,
) -> None:
    """Copies the answers into one new file, also while the study is served."""
    with _requires_extra():
        from lapgan.study.stimuli import load_study
        from lapgan.study.store import back_up

    back_up(load_study(study), database, out)
    typer.echo(str(out))


@study_app.command("remove")
def remove(
    study: StudyFolder,
    codes: Annotated[list[str] | None, typer.Argument(help="Codes such as R-1a2b3c4d.")] = None,
    simulated: Annotated[bool, typer.Option("--simulated", help="All simulated raters.")] = False,
    database: Database = None,
) -> None:
    """Deletes raters and their answers for good, for example when a rater withdraws."""
    with _requires_extra():
        from lapgan.study.stimuli import load_study
        from lapgan.study.store import Store

    if bool(codes) == simulated:
        raise LapganError("remove: expected either codes or --simulated. Give one of them.")
    store = Store(load_study(study), database)
    programs = [rater["code"] for rater in store.progress() if rater["simulated"]]
    removed = store.remove(codes or programs)
    store.close()
    if missing := sorted(set(codes or []) - set(removed)):
        raise LapganError(
            f"{', '.join(missing)}: no such rater; {len(removed)} others were removed. The codes "
            "are on the admin page."
        )
    typer.echo(f"{len(removed)} raters removed. Exports and backups still hold their answers.")


@study_app.command("report")
def report(
    study: StudyFolder,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: STUDY/report.")] = None,
    database: Database = None,
) -> None:
    """Analyzes the answers; writes report.html and report.json."""
    with _requires_extra():
        from lapgan.study.report import write_report
        from lapgan.study.stimuli import STIMULI, load_study
        from lapgan.study.store import Store

    frozen = load_study(study)
    store = Store(frozen, database)
    rows, progress = store.rows(), store.progress()
    folder = out or study / "report"
    for path in write_report(
        frozen.manifest, rows, folder, progress=progress, stimuli=frozen.folder / STIMULI
    ):
        typer.echo(str(path))
    store.close()


@study_app.command("simulate")
def simulate(
    study: StudyFolder,
    raters: Annotated[int, typer.Option(min=1, max=1000)] = 15,
    d_prime: Annotated[
        list[str] | None, typer.Option(help="SOURCE=VALUE, sensitivity to its images. Repeatable.")
    ] = None,
    half_ms: Annotated[float, typer.Option(help="Time at which half of d' is reached.")] = 150.0,
    criterion_std: Annotated[
        float, typer.Option("--criterion-std", "--spread", help="SD of the raters' criteria.")
    ] = 0.3,
    lapse: Annotated[float, typer.Option(help="Share of random answers.")] = 0.02,
    criterion: Annotated[float, typer.Option(help="Mean; below 0 tends to real.")] = -0.5,
    seed: int = 0,
    database: Database = None,
) -> None:
    """Lets simulated raters take part; they are marked as simulated permanently."""
    with _requires_extra():
        import numpy as np

        from lapgan.study.simulate import Observers, simulate_into
        from lapgan.study.stimuli import load_study
        from lapgan.study.store import Store

    frozen = load_study(study)
    options = dict(_parse_pair(text, "d-prime") for text in d_prime or [])
    sensitivities = {fake: _parse_number(options.get(fake, "1")) for fake in frozen.manifest.fakes}
    store = Store(frozen, database)
    observers = Observers(sensitivities, half_ms, criterion, criterion_std, lapse)
    simulate_into(store, observers, raters, np.random.default_rng(seed))
    typer.echo(f"{raters} simulated raters have taken part.")
    store.close()


@study_app.command("power")
def power(
    share: Annotated[float, typer.Option(help="Expected share judged real, 0 to 1.")] = 0.45,
    half_width: Annotated[float, typer.Option(help="Half the interval's width, 0 to 0.5.")] = 0.05,
    criterion_std: Annotated[
        float, typer.Option("--criterion-std", "--spread", help="SD of criteria between raters.")
    ] = 0.3,
    image_std: Annotated[
        float, typer.Option(help="SD of how real the images of a source look.")
    ] = 0.5,
    recipe: Annotated[
        Path | None, typer.Option(help="study.toml. Default: the paper's design.")
    ] = None,
    fakes: Annotated[int, typer.Option(min=1, help="Number of fake sources.")] = 3,
    studies: Annotated[int, typer.Option(min=2, help="Simulated studies per row.")] = 100,
    seed: int = 0,
) -> None:
    """Prints how many raters and trials an interval of a given width takes."""
    with _requires_extra():
        import numpy as np

        from lapgan.study.design import read_design
        from lapgan.study.power import Goal, plan_table

    goal = Goal(share, half_width, criterion_std, image_std)
    rng = np.random.default_rng(seed)
    for line in plan_table(goal, read_design(recipe), fakes, rng, studies):
        typer.echo(line)


def _requires_extra() -> AbstractContextManager[None]:
    """Returns the context of imports that need the packages of the extra `study`."""
    return requires("study", "The human study")


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise LapganError(f"expected a number, found {text!r}. Write e.g. 1.5.") from error


def _parse_pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise LapganError(
            f"--{option}: expected NAME=VALUE, found {text!r}. Write both, joined by '='."
        )
    return name, value


def _parse_sources(texts: list[str]) -> dict[str, str]:
    with _requires_extra():
        from lapgan.study.design import CATCH, REAL

    sources: dict[str, str] = {}
    for text in texts:
        name, spec = _parse_pair(text, "source")
        if name in (REAL, CATCH) or name in sources:
            raise LapganError(f"--source: {name!r} is already used. Choose another name.")
        if not re.fullmatch(r"[^\W_][\w .+-]{0,63}", name):
            raise LapganError(
                f"--source: {name!r} cannot be a name. Expected up to 64 letters, digits, spaces "
                "and . + - _, a letter or digit first. Choose another name."
            )
        sources[name] = spec
    return sources

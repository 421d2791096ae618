"""The commands of `lapgan study`, one short function each."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from lapgan.errors import LapganError

__all__ = ["study_app"]

study_app = typer.Typer(
    help="The human study of the paper: real or fake?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

StudyFolder = Annotated[Path, typer.Argument(help="The study's folder.")]


@contextmanager
def _extra() -> Iterator[None]:
    """Imports inside wait for the command that needs them: the packages are an extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise LapganError(
            f"{error.name}: is not installed. Run `pip install lapgan[study]`."
        ) from error


Database = Annotated[
    str | None,
    typer.Option(help="SQLAlchemy URL; by default answers.sqlite in the study's folder."),
]


@study_app.command("new")
def new(
    study: StudyFolder,
    real: Annotated[str, typer.Option(help="Real images: folder, npz, parquet or data source.")],
    source: Annotated[
        list[str], typer.Option(help="NAME=SOURCE: folder, npz, parquet or lapgan run. Repeat it.")
    ],
    recipe: Annotated[
        Path | None, typer.Option(help="study.toml; the paper's design without.")
    ] = None,
    crop: Annotated[
        int | None, typer.Option(help="Center crop in pixels, of every source.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the recipe's seed.")] = None,
    split: Annotated[str, typer.Option(help="Split of a named data source.")] = "test",
) -> None:
    """Draws the images and freezes them, with the design, in a new folder."""
    with _extra():
        from lapgan.study.design import read_design
        from lapgan.study.stimuli import freeze

    changes = {key: value for key, value in (("crop", crop), ("seed", seed)) if value is not None}
    design = read_design(recipe, changes)
    frozen = freeze(study, design, real, _named_sources(source), split)
    typer.echo(f"{study}: {len(frozen.manifest.stimuli)} images frozen.")
    typer.echo(f"Edit {study}/consent.txt, then run: lapgan study serve {study}")


@study_app.command("serve")
def serve(
    study: StudyFolder,
    host: Annotated[str, typer.Option(help="127.0.0.1 keeps it on this machine.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    database: Database = None,
    public_url: Annotated[
        str | None, typer.Option(help="Address behind a proxy, for the QR code.")
    ] = None,
    trusted_proxy: Annotated[
        str | None, typer.Option(help="Address of the proxy whose X-Forwarded-* is believed.")
    ] = None,
    admin_secret: Annotated[
        str | None,
        typer.Option(envvar="LAPGAN_STUDY_SECRET", help="Drawn anew at each start without."),
    ] = None,
    rate: Annotated[
        list[str] | None, typer.Option(help="KIND=LIMIT such as joins=600/minute. Repeat it.")
    ] = None,
) -> None:
    """Serves the study to raters' browsers until Ctrl-C."""
    with _extra():
        from lapgan.study.serve import serve as serve_study
        from lapgan.study.stimuli import load_study

    serve_study(
        load_study(study),
        database=database,
        host=host,
        port=port,
        public_url=public_url,
        trusted_proxy=trusted_proxy,
        admin_secret=admin_secret or secrets.token_urlsafe(12),
        rates=dict(_pair(text, "rate") for text in rate or []),
    )


@study_app.command("export")
def export(
    study: StudyFolder,
    out: Annotated[Path | None, typer.Option(help="Folder; STUDY/export without.")] = None,
    database: Database = None,
) -> None:
    """Writes every answer as tidy CSV and JSON Lines, with a data dictionary."""
    with _extra():
        from lapgan.study.export import export as export_rows
        from lapgan.study.stimuli import load_study
        from lapgan.study.store import Store

    store = Store(load_study(study), database)
    for path in export_rows(store.rows(), out or study / "export"):
        typer.echo(str(path))
    store.close()


@study_app.command("report")
def report(
    study: StudyFolder,
    out: Annotated[Path | None, typer.Option(help="Folder; STUDY/report without.")] = None,
    database: Database = None,
) -> None:
    """Analyses the answers; writes report.html and report.json."""
    with _extra():
        from lapgan.study.report import write_report
        from lapgan.study.stimuli import load_study
        from lapgan.study.store import Store

    frozen = load_study(study)
    store = Store(frozen, database)
    for path in write_report(frozen.manifest, store.rows(), out or study / "report"):
        typer.echo(str(path))
    store.close()


@study_app.command("simulate")
def simulate(
    study: StudyFolder,
    raters: Annotated[int, typer.Option(min=1, max=1000)] = 15,
    d_prime: Annotated[
        list[str] | None, typer.Option(help="SOURCE=VALUE, how well fakes are told. Repeat it.")
    ] = None,
    half_ms: Annotated[float, typer.Option(help="Time at which half of d' is reached.")] = 150.0,
    spread: Annotated[float, typer.Option(help="SD of the raters' criteria.")] = 0.3,
    lapse: Annotated[float, typer.Option(help="Share of answers given blindly.")] = 0.02,
    criterion: Annotated[float, typer.Option(help="Below 0 leans to real.")] = -0.5,
    seed: int = 0,
    database: Database = None,
) -> None:
    """Lets simulated raters take the study; they are marked as simulated for good."""
    with _extra():
        import numpy as np

        from lapgan.study.simulate import Observers, simulate_into
        from lapgan.study.stimuli import load_study
        from lapgan.study.store import Store

    frozen = load_study(study)
    known = {name: _number(value) for name, value in (_pair(t, "d-prime") for t in d_prime or [])}
    sensitivities = {fake: known.get(fake, 1.0) for fake in frozen.manifest.fakes}
    store = Store(frozen, database)
    observers = Observers(sensitivities, half_ms, criterion, spread, lapse)
    simulate_into(store, observers, raters, np.random.default_rng(seed))
    typer.echo(f"{raters} simulated raters have taken the study.")
    store.close()


@study_app.command("power")
def power(
    share: Annotated[float, typer.Option(help="Expected share judged real, 0 to 1.")] = 0.45,
    half_width: Annotated[float, typer.Option(help="Wanted half width, 0 to 0.5.")] = 0.05,
    spread: Annotated[float, typer.Option(help="SD of criteria between raters.")] = 0.3,
    recipe: Annotated[Path | None, typer.Option(help="study.toml; the paper's without.")] = None,
    fakes: Annotated[int, typer.Option(min=1, help="Number of fake sources.")] = 3,
    studies: Annotated[int, typer.Option(min=2, help="Simulated studies a row.")] = 100,
    seed: int = 0,
) -> None:
    """How many raters and trials an interval of this width takes."""
    with _extra():
        import numpy as np

        from lapgan.study.design import read_design
        from lapgan.study.power import plan_raters, simulated_half_width

    design = read_design(recipe)
    rng = np.random.default_rng(seed)
    typer.echo(f"Raters for a 95% interval of {share:.0%} +- {half_width:.1%}:")
    typer.echo("trials  cell                 answers/rater  raters  answers  simulated half width")
    for trials in (design.trials // 2, design.trials, 2 * design.trials):
        for cell, parts in (
            ("source, all times", 1),
            ("source at one time", len(design.durations_ms)),
        ):
            answers = max(1, round(trials / (fakes + 1) / parts))
            plan = plan_raters(share, spread, half_width, [answers])[0]
            width, held = simulated_half_width(share, spread, plan.raters, answers, rng, studies)
            typer.echo(
                f"{trials:6d}  {cell:19s}  {answers:13d}  {plan.raters:6d}  {plan.answers:7d}  "
                f"{width:.1%} (holds the truth in {held:.0%})"
            )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise LapganError(f"expected a number, got {text!r}. Write e.g. 1.5.") from error


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise LapganError(f"--{option}: expected NAME=VALUE, got {text!r}. Write it so.")
    return name, value


def _named_sources(texts: list[str]) -> dict[str, str]:
    with _extra():
        from lapgan.study.design import CATCH, REAL

    sources: dict[str, str] = {}
    for text in texts:
        name, spec = _pair(text, "source")
        if name in (REAL, CATCH) or name in sources or len(name) > 64:
            raise LapganError(f"--source: {name!r} is taken or too long. Choose another name.")
        sources[name] = spec
    return sources

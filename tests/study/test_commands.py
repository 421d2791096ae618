import sqlite3
import subprocess
import sys

import httpx2 as httpx
import pytest
from serving import free_port, make_answer, serving, write_images
from typer.testing import CliRunner

from lapgan.errors import LapganError
from lapgan.study.commands import study_app
from lapgan.study.serve import ServerConfig, serve
from lapgan.study.standing import RefusedError
from lapgan.study.stimuli import load_study
from lapgan.study.store import Store

RECIPE = """
trials = 12
blocks = 2
practice_trials = 2
catch_trials = 2
images_per_source = 16
zoom = 1
durations_ms = [50, 500, 2000]
"""


def run(*arguments):
    result = CliRunner().invoke(study_app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def folder(tmp_path):
    """A study created by the command."""
    recipe = tmp_path / "study.toml"
    recipe.write_text(RECIPE)
    real, gan = write_images(tmp_path, 40, 1), write_images(tmp_path, 40, 2)
    study = tmp_path / "study"
    out = run(
        "new", study, "--real", real, "--source", f"gan={gan}", "--recipe", recipe, "--seed", 7
    )
    assert "lapgan study serve" in out
    return study


def test_from_images_to_the_report(folder, tmp_path):
    assert load_study(folder).design.seed == 7
    assert "3 simulated raters" in run("simulate", folder, "--raters", 3, "--d-prime", "gan=2.5")
    assert "report.html" in run("report", folder)
    assert (folder / "report" / "report.json").is_file()
    run("export", folder, "--out", tmp_path / "export")
    assert (tmp_path / "export" / "answers.csv").read_text().count("\n") == 1 + 3 * 16


def test_power_prints_a_plan():
    out = run("power", "--share", "0.4", "--half-width", "0.1", "--studies", 3)
    assert "source at one time" in out
    assert len(out.splitlines()) == 8


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gan", "expected NAME=VALUE"),
        ("real=x.npz", "'real' is already used"),
        ("catch=x", "is already used"),
    ],
)
def test_sources_need_names_of_their_own(tmp_path, source, message):
    with pytest.raises(LapganError, match=message):
        run("new", tmp_path / "s", "--real", "x.npz", "--source", source)


def test_the_server_announces_itself_and_refuses_a_taken_port(folder):
    command = [
        sys.executable,
        "-m",
        "lapgan.study",
        "serve",
        str(folder),
        "--port",
        str(free_port()),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        process.terminate()
    text = "".join(lines)
    assert "On this machine   http://127.0.0.1:" in text
    assert "secret: " in text
    assert len(text.split("secret: ")[1].splitlines()[0]) == 16
    port = free_port()
    with serving(folder, port):
        again = [*command[:-1], str(port), "--host", "127.0.0.1"]
        done = subprocess.run(again, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot listen there" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_rate_that_is_none_is_refused(folder):
    with pytest.raises(LapganError, match="--rate"):
        serve(
            load_study(folder),
            None,
            ServerConfig("x" * 10, "127.0.0.1", 0, rates={"joins": "many"}),
        )


def test_the_command_line_opens_without_the_extra():
    code = (
        "import sys\n"
        "for name in ('sqlalchemy', 'starlette', 'scipy', 'jinja2', 'segno'):\n"
        "    sys.modules[name] = None\n"
        "from lapgan.study.commands import study_app\n"
        "study_app(['export', 'x'], standalone_mode=False)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(
        "Install it with pip install -e '.[study]' in the folder of the source of lapgan."
    )


def test_the_study_needs_no_torch(folder):
    code = (
        "import sys\n"
        "from lapgan.study.commands import study_app\n"
        f"study_app(['simulate', {str(folder)!r}, '--raters', '1'], standalone_mode=False)\n"
        f"study_app(['report', {str(folder)!r}], standalone_mode=False)\n"
        "assert not {'torch', 'torchvision'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def join_and_answer(base, count):
    """A person's first answers over HTTP; returns the number stored."""
    token = httpx.post(f"{base}/join").headers["location"].partition("#")[2]
    headers = {"Authorization": f"Bearer {token}"}
    for _ in range(count):
        trial = httpx.get(f"{base}/api/sitting", headers=headers).json()["next"]["trial"]
        done = httpx.post(f"{base}/api/answers", headers=headers, json=make_answer(trial))
        assert done.status_code == 200


def count_answers(path):
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(*) FROM study_answers").fetchone()
    connection.close()
    return count


def test_on_term_the_store_is_closed_and_a_backup_needs_no_stop(folder, tmp_path):
    database = folder / "answers.sqlite"
    with serving(folder, free_port()) as (process, base):
        join_and_answer(base, 3)
        run("backup", folder, tmp_path / "copy.sqlite")
        process.terminate()
        assert process.wait(20) == 0
    assert not database.with_name("answers.sqlite-wal").exists()
    assert count_answers(database) == count_answers(tmp_path / "copy.sqlite") == 3
    assert database.stat().st_mode & 0o077 == 0
    assert (tmp_path / "copy.sqlite").stat().st_mode & 0o077 == 0
    with pytest.raises(LapganError, match="already exists"):
        run("backup", folder, tmp_path / "copy.sqlite")


def test_raters_can_be_removed_and_programs_never_join_people(folder):
    store = Store(load_study(folder))
    token = store.join().result()
    code = store.sitting(token).code
    with pytest.raises(LapganError, match="people have taken part"):
        run("simulate", folder, "--raters", 1)
    assert "1 raters removed" in run("remove", folder, code)
    with pytest.raises(RefusedError):
        store.sitting(token)
    with pytest.raises(LapganError, match="no such rater"):
        run("remove", folder, code)
    run("simulate", folder, "--raters", 2, "--spread", 0.1)
    assert len(store.rows()) == 32
    assert "2 raters removed" in run("remove", folder, "--simulated")
    assert store.rows() == store.progress() == []
    store.close()


@pytest.mark.parametrize("name", ["_gan", "$a_b$", "a/b", "x" * 65])
def test_names_that_no_figure_can_show_are_refused(tmp_path, name):
    with pytest.raises(LapganError, match="cannot be a name"):
        run("new", tmp_path / "s", "--real", "x.npz", "--source", f"{name}=x.npz")


def test_a_database_that_cannot_be_written_is_refused_at_the_start(folder):
    study = load_study(folder)
    Store(study).close()
    connection = sqlite3.connect(folder / "answers.sqlite")
    connection.execute(
        "CREATE TRIGGER full BEFORE UPDATE ON study_meta BEGIN SELECT RAISE(FAIL, 'disk full'); END"
    )
    connection.close()
    with pytest.raises(LapganError, match=r"cannot be written \(disk full\)"):
        serve(study, None, ServerConfig("x" * 10, "127.0.0.1", 0))


def test_a_short_secret_is_refused(folder):
    with pytest.raises(LapganError, match="1 characters, expected at least 10"):
        serve(load_study(folder), None, ServerConfig("q", "127.0.0.1", 0))

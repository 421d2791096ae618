"""The texts that raters see, in several languages."""

import re
import tomllib
from importlib import resources

import pytest
from serving import write_images
from starlette.testclient import TestClient

from lapgan.errors import LapganError
from lapgan.study.app import build_app
from lapgan.study.design import Design, read_design
from lapgan.study.stimuli import freeze, load_study
from lapgan.study.store import Store
from lapgan.study.texts import copy_texts, list_languages, parse_texts, read_shipped, read_texts

PACKAGE = resources.files("lapgan.study")
SMALL = {"trials": 4, "blocks": 2, "practice_trials": 1, "catch_trials": 0, "examples": 2}


def pages_of(study):
    """All that the server sends to a rater's eyes, without tags and scripts."""
    store = Store(study)
    with TestClient(build_app(study, store, "open-sesame"), follow_redirects=False) as client:
        texts = [client.get(path).text for path in ("/", "/sitting", "/declined", "/nothing")]
        store.set_paused(True)
        texts.append(client.post("/join").text)
    store.close()
    return texts


def frozen(tmp_path, **changes):
    sources = [str(write_images(tmp_path, 40, seed)) for seed in (1, 2)]
    design = Design.model_validate({**SMALL, "images_per_source": 8, **changes})
    return freeze(tmp_path / "study", design, sources[0], {"gan": sources[1]})


def test_a_german_study_has_no_english_word_of_the_texts(tmp_path):
    study = frozen(tmp_path, language="de")
    assert study.design.title == "Echt oder künstlich?"
    assert "Wir laden Sie ein" in study.consent
    pages = pages_of(study)
    assert all('<html lang="de">' in page for page in pages)
    english, german = read_texts("en"), read_texts("de")
    seen = "\n".join(pages)
    for key, text in english.entries.items():
        longest = max(re.split(r"\{\w+\}|\*|\n", text), key=len).strip()
        if text != german.entries[key] and len(longest) > 8:
            assert longest not in seen, key
    for key in ("instructions.heading", "break.heading", "start.agree", "paused.before"):
        assert german.entries[key] in seen


def test_every_language_has_the_keys_of_english_and_real_umlauts():
    assert list_languages() == ["de", "en"]
    for language in list_languages():
        assert read_texts(language).language == language
    german = read_shipped("de")
    assert {"ä", "ö", "ü", "ß"} <= set(german)
    # Spelled-out umlauts of common words.
    assert not re.search(r"koenn|fuer|ueber|zurueck|moecht|loesch|waer|schoen|groess", german)


def test_every_text_is_used():
    used = "".join(
        path.read_text()
        for folder in (PACKAGE / "templates", PACKAGE / "static", PACKAGE)
        for path in folder.iterdir()
        if path.name.endswith((".html", ".py", ".js"))
    )
    for key in read_texts("en").entries:
        section, _, name = key.partition(".")
        places = (f'"{key}"', f"texts.{name}", f'"{section}"', f'"{name}"', f'"{section}.', "words")
        assert any(place in used for place in places), key


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('heading = "Take a break"\n', "", "break.heading: missing"),
        ("[lost]\n", '[lost]\nheadline = "x"\n', "lost.headline: unknown key"),
        ("Your code is {code}.", "Your code.", "break.code: expected {code}, each once"),
        ('heading = "Paused"', "heading = 3", "paused.heading: expected a text, found 3"),
        ('heading = "Paused"', 'heading = " "', "paused.heading: expected a text, found ' '"),
        ('language = "en"', "", "language: missing"),
        ("[words]", "[words", "this is not TOML"),
    ],
)
def test_a_wrong_file_of_texts_is_refused_by_the_key(old, new, problem):
    text = read_shipped("en")
    assert old in text
    with pytest.raises(LapganError, match=re.escape(problem)) as error:
        parse_texts(text.replace(old, new), "mine.toml")
    assert str(error.value).startswith("mine.toml")


def test_own_texts_are_frozen_with_the_study(tmp_path):
    own = tmp_path / "fr.toml"
    copy_texts("en", own)
    text = own.read_text().replace('"Real or fake?"', '"Vrai ou <faux> ?"')
    own.write_text(text.replace('language = "en"', 'language = "fr"'))
    (tmp_path / "study.toml").write_text('language = "fr.toml"\n')
    language = read_design(tmp_path / "study.toml").language
    study = frozen(tmp_path, language=language)
    own.unlink()
    pages = pages_of(load_study(study.folder))
    assert all('<html lang="fr">' in page for page in pages)
    assert "<h1>Vrai ou &lt;faux&gt; ?</h1>" in pages[0]
    with pytest.raises(LapganError, match="already exists"):
        copy_texts("en", study.folder / "texts.toml")


@pytest.mark.parametrize("language", ["fr", "missing.toml"])
def test_an_unknown_language_leaves_no_study(tmp_path, language):
    with pytest.raises(LapganError, match=language):
        frozen(tmp_path, language=str(tmp_path / language) if "." in language else language)
    assert not (tmp_path / "study").exists()


def test_a_study_from_before_there_were_languages_is_english(tmp_path):
    study = frozen(tmp_path)
    path = study.folder / "manifest.json"
    content = path.read_text()
    for line in ('  "language": "en",\n',):
        assert line in content
        content = content.replace(line, "")
    path.write_text(content)
    assert load_study(study.folder).texts().language == "en"


def test_stars_are_bold_and_values_are_escaped():
    texts = parse_texts(read_shipped("en"), "en")
    assert "a <b>real</b> photograph" in texts.html("instructions.judge")
    assert texts.html("break.code", code="<i>") == "Your code is &lt;i&gt;."
    assert tomllib.loads(read_shipped("en"))["words"]["real"] == texts.plain("words.real")

"""The demo's folder and its server, without a browser."""

import threading
import urllib.request
from pathlib import Path

import pytest

from lapgan.cascade import Cascade
from lapgan.demo import write_site
from lapgan.demo.serve import make_server
from lapgan.errors import LapganError
from lapgan.noise import HashedNoise


def test_the_server_sends_what_threads_and_modules_need(tmp_path: Path):
    for name in ("a.mjs", "a.js", "a.css", "index.html"):
        (tmp_path / name).write_text("x")
    with make_server(tmp_path, 0) as server:
        threading.Thread(target=server.serve_forever).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        types = {}
        for name in ("a.mjs", "a.js", "a.css", ""):
            with urllib.request.urlopen(f"{base}/{name}") as response:
                types[name] = response.headers["Content-Type"].partition(";")[0]
                assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        with pytest.raises(LapganError, match=f"--port {server.server_address[1]}: cannot be"):
            make_server(tmp_path, server.server_address[1])
        server.shutdown()
    script = "text/javascript"
    assert types == {"a.mjs": script, "a.js": script, "a.css": "text/css", "": "text/html"}


def test_a_model_whose_noise_the_page_cannot_draw_is_refused(tmp_path: Path, cascade: Cascade):
    level = cascade.recipe.levels[0].model_copy(update={"noise": HashedNoise()})
    cascade.recipe = cascade.recipe.model_copy(
        update={"levels": (level, *cascade.recipe.levels[1:])}
    )
    with pytest.raises(LapganError, match=r"level 12: .* kind 'hashed', whose values depend"):
        write_site(cascade, tmp_path / "site", "tiny")
    assert list(tmp_path.iterdir()) == []

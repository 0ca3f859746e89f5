"""What a server answers, and what it refuses; in this process, by a small trained run."""

from __future__ import annotations

import base64
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
import requests
from encoded_images import encode, png
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served_model import client_of
from starlette.testclient import TestClient

import fpclass
from fpclass.deploy.serve.maps import HeatMap
from fpclass.deploy.serve.served import open_served
from fpclass.deploy.serve.words import map_in_words
from fpclass.run.overlay import explain_classes

RAW = {"content-type": "application/octet-stream"}
FORM = {"content-type": "multipart/form-data; boundary=x"}
FIELD = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n'
BOMB = png(50_000, 50_000, 8, 0, [b""])
"""A file of 70 bytes that claims 2,500 million pixels."""


@pytest.fixture(scope="module")
def client(photo_run: pathlib.Path) -> Iterator[TestClient]:
    with client_of(photo_run, max_body_mb=0.2, max_images=3, origins=("https://page.example",)) as client:
        yield client


@pytest.fixture(scope="module")
def photo(photos: pathlib.Path) -> bytes:
    return sorted(photos.glob("cat/*"))[0].read_bytes()


def answer(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    (one,) = response.json()["predictions"]
    return one


def test_bytes_forms_and_base64_are_answered_as_python_does(client, photo_run, photo):
    expected = fpclass.load(photo_run).predict(photo)
    text = base64.b64encode(photo).decode()
    bodies = [
        {"content": photo, "headers": RAW},
        {"content": photo, "headers": {"content-type": "image/png"}},
        {"files": {"file": ("cat.png", photo)}},
        {"json": {"image": text}},
        {"json": {"image": f"data:image/png;base64,{text}"}},
        {"json": {"images": ["\n".join((text[:20], text[20:])).rstrip("=")]}},
    ]
    for body in bodies:
        one = answer(client.post("/predict", **body))
        assert one["label"] == expected.label
        assert one["probabilities"] == expected.probabilities
        assert one["probability"] == expected.probability
        assert one["abstain"] is False


def test_several_images_are_answered_in_order_also_where_one_is_none(client, photos, photo_run):
    cat, dog = (sorted(photos.glob(f"{name}/*"))[0].read_bytes() for name in ("cat", "dog"))
    files = [("file", ("a.png", cat)), ("file", ("../../b\u202e.png", b"text")), ("file", ("c.png", dog))]
    first, second, third = client.post("/predict", files=files).json()["predictions"]
    run = fpclass.load(photo_run)
    for one, image in ((first, cat), (third, dog)):
        assert one["probabilities"] == run.predict(image).probabilities
    assert "not an image" in second["error"]
    assert second["filename"] == "../../b\\u202e.png", "only repeated, and not by what turns writing round"
    response = client.post("/predict", files=files[1:2])
    assert response.status_code == 422
    assert "not an image" in response.json()["error"]


def test_refusals_say_why(client, photo):
    three_too_many = [("file", ("a.png", photo))] * 6
    refused = [
        (415, "content type", {"content": photo}),
        (415, "text/plain", {"content": photo, "headers": {"content-type": "text/plain"}}),
        (400, "no image", {"content": b"", "headers": RAW}),
        (400, "no image", {"content": FIELD, "headers": FORM}),
        (400, "cannot be read", {"content": b"a=b", "headers": FORM}),
        (400, "boundary", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}),
        (400, "no JSON", {"content": b"{", "headers": {"content-type": "application/json"}}),
        (400, "no JSON", {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}),
        (400, '"image"', {"json": ["a"]}),
        (400, "met null", {"json": {"image": None}}),
        (400, "expected a list", {"json": {"images": "a"}}),
        (400, "no base64", {"json": {"image": "§"}}),
        (422, "empty file", {"json": {"image": ""}}),
        (422, "not an image", {"content": b"hello", "headers": RAW}),
        (422, "damaged", {"content": photo[:-60], "headers": RAW}),
        (422, "too large: 9000 x 9000", {"content": png(9000, 9000, 8, 0, [b""]), "headers": RAW}),
        (422, "too large: more", {"content": BOMB, "headers": RAW}),
        (413, "larger than 0.2 MB", {"content": b"a" * 200_001, "headers": RAW}),
        (413, "larger than 0.2 MB", {"content": iter([b"a" * 150_000] * 2), "headers": RAW}),
        (400, "Too many files", {"files": three_too_many}),
        (413, "at most 3", {"json": {"images": ["a"] * 4}}),
    ]  # fmt: skip
    for status, reason, body in refused:
        response = client.post("/predict", **body)
        assert (response.status_code, reason in response.json()["error"]) == (status, True), response.text
    for path, status, method in (("/nothing", 404, "GET"), ("/predict", 405, "GET"), ("/train", 404, "POST")):
        response = client.request(method, path)
        assert response.status_code == status
        assert response.json()["error"]


def test_an_image_of_another_kind_is_not_answered_with_confidence(client):
    for pixels, kind in (
        (np.full((40, 40, 3), 128), "blank"),
        (np.random.default_rng(0).integers(0, 256, (24, 400, 3)), "wide"),
        (np.random.default_rng(0).integers(0, 256, (3, 3, 3)), "tiny"),
    ):
        one = answer(client.post("/predict", content=encode(pixels.astype(np.uint8)), headers=RAW))
        assert kind in {note["kind"] for note in one["notes"]}
        assert one["abstain"] is True
        assert one["abstain_because"]


def test_the_promises_of_a_study_come_with_its_answers(study, blobs):
    prints = sorted(blobs.rglob("*.png"))
    expected = fpclass.load(study).predict(prints)
    with client_of(study, batch=4) as client:
        images = [base64.b64encode(path.read_bytes()).decode() for path in prints[:9]]
        answers = client.post("/predict", json={"images": images}).json()["predictions"]
    for one, (_, row) in zip(answers, expected.iterrows(), strict=False):
        assert one["probabilities"] == {"0": row["probability_0"], "1": row["probability_1"]}
        assert one["set"] == [name for name in row["set"].split(" | ") if name]
        assert one["abstain"] == (row["abstain"] == "yes" or bool([n for n in one["notes"] if n["is_unlike"]]))


def test_maps_come_as_pictures_and_as_text(client, photo):
    described = client.get("/model").json()["explain"]
    response = client.post("/predict?explain=png", content=photo, headers=RAW)
    assert response.headers["content-type"] == "image/png"
    assert "x-explanation-problem" not in response.headers
    one = answer(client.post("/predict?explain=base64", content=photo, headers=RAW))["explanation"]
    assert one["problem"] == ""
    assert one["stage"] == described["default"]
    assert base64.b64decode(one["image"].partition(",")[2]) == response.content
    other = next(label for label in ("cat", "dog") if label != one["label"])
    stage = described["stages"][0]
    answered = client.post(f"/predict?explain=png&stage={stage}&label={other}", content=photo, headers=RAW)
    assert answered.content != response.content
    for query in ("explain=gif", "explain=png&stage=no", "explain=png&method=no", "explain=base64&label=no"):
        assert client.post(f"/predict?{query}", content=photo, headers=RAW).status_code == 422
    two = [("file", ("a.png", photo))] * 2
    assert client.post("/predict?explain=png", files=two).status_code == 422


def test_a_map_that_shows_nothing_says_so(photo_run, photo):
    served = open_served(photo_run)
    ((name, (network,)),) = served.predictor.members.items()
    dead = network.with_weights(lambda: jax.tree.map(np.zeros_like, network.variables))
    blind = dataclasses.replace(served.predictor, members={name: [dead]})
    with client_of(dataclasses.replace(served, predictor=blind)) as client:
        told = answer(client.post("/predict?explain=base64", content=photo, headers=RAW))["explanation"]
        assert told["problem"] == "the map is zero everywhere"
        headers = client.post("/predict?explain=png", content=photo, headers=RAW).headers
        assert headers["x-explanation-problem"] == told["problem"]
    picture = served.look_at(photo, 10**6)
    for predictor, is_problem in ((blind, True), (served.predictor, False)):
        words = map_in_words(HeatMap(explain_classes(predictor, picture.image, (0,), "grad_cam")), 0.5)
        assert ("Nothing is to be seen: the map is zero everywhere" in words) == is_problem


def test_the_server_tells_what_it_serves_and_nothing_of_its_machine(client, photo_run, photo):
    client.post("/predict", content=photo, headers=RAW)
    model = client.get("/model").json()
    assert model["classes"] == ["cat", "dog"]
    assert model["image_size"] == [24, 20]
    assert model["metrics"]["scores"]["accuracy"]["low"] <= model["metrics"]["scores"]["accuracy"]["high"]
    assert "must not be used for" in model["card"]
    metrics = client.get("/metrics").text
    assert 'fpclass_requests_total{path="/predict",status="200"}' in metrics
    assert "fpclass_ready 1.0" in metrics
    documented = client.get("/openapi.json").json()
    assert {"/predict", "/health", "/ready", "/metrics", "/model"} == set(documented["paths"])
    told = " ".join(client.get(path).text for path in ("/model", "/metrics", "/openapi.json", "/health", "/docs"))
    assert str(photo_run.parent) not in told


def test_only_pages_of_the_owners_choice_may_call(client, photo):
    headers = {"origin": "https://page.example"}
    assert client.get("/model", headers=headers).headers["access-control-allow-origin"] == "https://page.example"
    other = client.get("/model", headers={"origin": "https://other.example"}).headers
    assert "access-control-allow-origin" not in other


def test_training_takes_the_token_and_a_config_that_is_allowed(photo_run, tmp_path):
    config = tmp_path / "mine.py"
    config.write_text("")
    token = "a token of many letters"
    with client_of(photo_run, train_configs={"mine": config}, train_token=token, jobs=tmp_path) as client:
        for authorization in ("", token, f"Bearer {token}x", "Bearer é"):
            headers = {"authorization": authorization.encode()}
            assert client.post("/train", json={"config": "mine"}, headers=headers).status_code == 401
            assert client.get("/jobs/1", headers=headers).status_code == 401
        headers = {"authorization": f"Bearer {token}"}
        refused = client.post("/train", json={"config": "../mine"}, headers=headers)
        assert (refused.status_code, "allowed are mine" in refused.json()["error"]) == (404, True)
        assert client.get("/jobs/..%2F..", headers=headers).status_code == 404
        assert client.post("/train", json={"config": "mine", "root": "/"}, headers=headers).status_code == 422
    assert list(tmp_path.iterdir()) == [config], "nothing was begun"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=300)
    | st.sampled_from([b'{"image":', b"--x\r\n", b"\x89PNG\r\n\x1a\n", b"GIF89a", FIELD]).map(lambda begin: 2 * begin),
    kind=st.sampled_from(["application/json", "image/png", *RAW.values(), *FORM.values()])
    | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
    query=st.dictionaries(st.sampled_from(["explain", "stage", "label", "method"]), st.text(max_size=8), max_size=2),
)
def test_nothing_that_is_sent_is_a_defect(client, photo, body, kind, query):
    for content in (body, photo[:40] + body):
        response = client.post("/predict", content=content, headers={"content-type": kind}, params=query)
        assert response.status_code < 500, response.text
        assert response.status_code == 200 or response.json()["error"]


def test_what_the_documentation_allows_is_answered_as_it_says(photo_run, tmp_path):
    schemathesis = pytest.importorskip("schemathesis")
    config = tmp_path / "mine.py"
    config.write_text("")
    training = {"train_configs": {"mine": config}, "train_token": "a token of many letters", "jobs": tmp_path}
    with client_of(photo_run, max_body_mb=0.2, max_images=3, **training) as client:
        documented = client.get("/openapi.json").json()
        operations = [found.ok() for found in schemathesis.openapi.from_dict(documented).get_all_operations()]
        assert {operation.path for operation in operations} >= {"/predict", "/train", "/jobs/{job_id}", "/model"}
        for operation in operations:
            told = documented["paths"][operation.path][operation.method]["responses"]
            _ask_anything(client, operation, told)


def _ask_anything(client, operation, told):
    @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def check(case):
        sent = requests.Request(**case.as_transport_kwargs(base_url="http://testserver")).prepare()
        response = client.request(sent.method, sent.url, headers=dict(sent.headers), content=sent.body)
        assert response.status_code < 500, response.text
        assert str(response.status_code) in told, response.text

    check()

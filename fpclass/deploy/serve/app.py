"""The web application: its paths, and what each answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException

from fpclass import __version__
from fpclass.deploy.serve import schema
from fpclass.deploy.serve.batching import Busy
from fpclass.deploy.serve.inputs import read_images
from fpclass.deploy.serve.jobs import JobRunningError, Jobs
from fpclass.deploy.serve.limits import BUSY_SECONDS, Limited
from fpclass.deploy.serve.observe import Observed, log
from fpclass.deploy.serve.service import Answered, Service
from fpclass.errors import ConfigError, one_line, printable

PATHS = frozenset({"/predict", "/train", "/model", "/health", "/ready", "/metrics", "/docs", "/openapi.json", "/"})
"""Whose requests are counted by path; those of a job, and of nothing, are `other`."""
COUNTED = frozenset({"/predict", "/gradio_api/upload"})
"""Whose requests are so large or take so long that only so many are let in."""
PROBLEM = "X-Explanation-Problem"
"""Header of a map as a picture: why it shows nothing."""


def make_app(service: Service, on_failure: Callable[[BaseException], None]) -> FastAPI:
    """The application around a service, which it starts and stops; `on_failure` is told why it cannot start."""
    settings, jobs = service.settings, Jobs(service.settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start(on_failure)
        yield
        await service.stop()
        await asyncio.to_thread(jobs.stop)
        log("stopped")

    app = FastAPI(
        title=f"fpclass: {service.served.name}",
        version=__version__,
        description=f"Answers which of {', '.join(service.served.predictor.class_names)} an image shows.",
        lifespan=lifespan,
        redoc_url=None,
        swagger_ui_parameters={"defaultModelsExpandDepth": 0},
    )
    _add_state(app, service)
    _add_predict(app, service)
    _add_training(app, jobs)
    _add_refusals(app)
    app.add_middleware(Limited, settings=settings, metrics=service.metrics, counted=COUNTED)
    app.add_middleware(Observed, metrics=service.metrics, paths=PATHS)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=[PROBLEM, "Retry-After"],
        )
    return app


def _add_state(app: FastAPI, service: Service) -> None:
    """What is served, and whether it can answer."""

    @app.get("/health", tags=["state"])
    async def health() -> dict[str, str]:
        """Whether the process is alive."""
        return {"status": "alive"}

    @app.get("/ready", tags=["state"], responses=schema.problems(503))
    async def ready() -> dict[str, str]:
        """Whether images are answered: the model is loaded and compiled."""
        _require_ready(service)
        return {"status": "ready"}

    @app.get("/metrics", tags=["state"], response_class=Response)
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/model", tags=["state"])
    async def model() -> dict[str, Any]:
        """What the model is, how good it was measured to be, and what this server takes."""
        settings, explainer = service.settings, service.explainer
        limits = {name: getattr(settings, name) for name in ("max_body_mb", "max_pixels", "max_images", "seconds")}
        maps = {"methods": list(explainer.methods), "stages": list(explainer.stages), "default": explainer.default}
        return {**service.served.describe(), "card": service.served.card, "explain": maps, "limits": limits}


def _add_predict(app: FastAPI, service: Service) -> None:
    classes, explainer = service.served.predictor.class_names, service.explainer

    @app.post(
        "/predict",
        tags=["images"],
        response_model=schema.Predictions,
        responses={
            200: {"content": {"image/png": {}}, "headers": schema.headers(PROBLEM)},
            **schema.problems(400, 408, 413, 415, 422, 429, 503),
        },
        openapi_extra=schema.PREDICT,
    )
    async def predict(request: Request) -> Response:
        """Says which class each image shows.

        Send the bytes of an image, files of a form, or base64 in JSON. The answer is a label with calibrated
        probabilities for each; `abstain` says that it is not to be relied on, and why.
        """
        _require_ready(service)
        explain, method, stage, label = (request.query_params.get(name, "") for name in schema.MAP_PARAMETERS)
        _check_choice("explain", explain, schema.EXPLAIN)
        if is_explained := explain in ("base64", "png"):
            _check_choice("method", method, explainer.methods)
            _check_choice("stage", stage, explainer.stages)
            _check_choice("label", label, classes)
        images = await read_images(request, service.settings)
        request.state.log["images"] = len(images)
        if explain == "png" and len(images) != 1:
            raise HTTPException(422, f"explain=png answers with one picture: send one image, not {len(images)}")
        answered = await service.answer(images)
        if all(one.picture is None for one in answered):
            reasons = "; ".join(_named(one) for one in answered[:5])
            raise HTTPException(422, reasons)
        if is_explained:
            for one in answered:
                if one.picture is None:
                    continue
                drawn = await service.explain(one, method, stage, label)
                told = {"method": drawn.method, "stage": drawn.stage, "label": label or one.answer["label"]}
                problem = drawn.explanation.problem
                if explain == "png":
                    return Response(drawn.png(), media_type="image/png", headers={PROBLEM: problem} if problem else {})
                one.answer["explanation"] = {**told, "image": drawn.data_url(), "problem": problem}
        served = service.served
        answers = [one.answer for one in answered]
        return JSONResponse({"model": served.name, "version": served.version, "predictions": answers})


def _add_training(app: FastAPI, jobs: Jobs) -> None:
    """Trainings; where the owner allowed none, they are as unknown as any other path."""
    if not jobs.are_allowed:
        return
    refusals = schema.problems(401, 404)

    def check(authorization: str) -> None:
        if not jobs.is_token(authorization):
            raise HTTPException(401, "expected the header Authorization: Bearer TOKEN", {"www-authenticate": "Bearer"})

    @app.post("/train", tags=["training"], status_code=202, responses={**refusals, **schema.problems(400, 409, 413)})
    async def train(wanted: schema.Training, authorization: Annotated[str, Header()] = "") -> schema.Job:
        """Starts a training from a config that the owner of the server allowed, one at a time."""
        check(authorization)
        try:
            job = await asyncio.to_thread(jobs.start, wanted.config)
        except ConfigError as error:
            raise HTTPException(404, str(error)) from None
        except JobRunningError:
            raise HTTPException(409, "a training is going on; GET /jobs/{id} tells how far it is") from None
        log("training", job=job.id, config=job.config)
        return schema.Job(**job.describe())

    @app.get("/jobs/{job_id}", tags=["training"], responses=refusals)
    async def job(job_id: str, authorization: Annotated[str, Header()] = "") -> schema.Job:
        """How far a training is."""
        check(authorization)
        if (found := jobs.find(job_id)) is None:
            raise HTTPException(404, "no such job")
        return schema.Job(**await asyncio.to_thread(found.describe))


def _add_refusals(app: FastAPI) -> None:
    """Every refusal is `{"error": reason}`."""

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def not_valid(_: Request, error: RequestValidationError) -> Response:
        reasons = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        return JSONResponse({"error": printable("; ".join(reasons)[:500])}, 422)

    @app.exception_handler(Busy)
    async def busy(_: Request, error: Busy) -> Response:
        return JSONResponse({"error": str(error)}, 429, {"retry-after": str(error.seconds)})

    @app.exception_handler(TimeoutError)
    async def too_slow(_: Request, error: TimeoutError) -> Response:
        del error
        return JSONResponse({"error": "it took too long; try again"}, 503, {"retry-after": str(BUSY_SECONDS)})


def add_documents_as_root(app: FastAPI) -> None:
    """Lets `/` lead to the documentation, where there is no page."""

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs")


def _require_ready(service: Service) -> None:
    if not service.is_ready:
        raise HTTPException(503, "the model is being loaded", {"retry-after": str(BUSY_SECONDS)})


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if not choices:
        raise HTTPException(422, "explain: this network names no stage with maps")
    if value and value not in choices:
        shown = printable(one_line(value[:100]))
        raise HTTPException(422, f"{name}: expected one of {', '.join(choices)}; met {shown!r}")


def _named(answered: Answered) -> str:
    name = answered.answer["filename"]
    return f"{name}: {answered.answer['error']}" if name else answered.answer["error"]

"""Calls outside `jax.jit`: compiled once, right after a change, and of bounded memory."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import loops, metrics
from jaxcam._ground import devices
from jaxcam._program import eager

COMPILED = "/jax/core/compile/backend_compile_duration"
pytestmark = pytest.mark.lenient
_events: list[str] = []
jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: _events.append(name))


def compilations(function):
    """How many programs are compiled while a function runs, and its result."""
    before = _events.count(COMPILED)
    result = jax.block_until_ready(function())
    return _events.count(COMPILED) - before, result


IMAGES = np.random.default_rng(0).normal(size=(2, 12, 12, 3)).astype(np.float32)
SALIENCY = np.random.default_rng(1).normal(size=(2, 12, 12)).astype(np.float32)


def network(scale):
    """Another function, and other numbers, in every call."""
    kernel = scale * jnp.asarray(np.random.default_rng(2).normal(size=(3, 3, 3, 4)), jnp.float32)

    def forward(images):
        numbers = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(images, kernel, (2, 2), "SAME", dimension_numbers=numbers)
        x = jaxcam.tag(jax.nn.relu(x), "features")
        return x.mean((1, 2))[:, :2] + 0.1 * x.max((1, 2))[:, 2:]

    return forward


SEGMENTS = jnp.asarray(np.arange(144).reshape(1, 12, 12) // 24).repeat(2, 0)
CALLS = {
    "rise": lambda f: jaxcam.rise(f, IMAGES, 0, num_masks=6, chunk=2, grid=3),
    "lime": lambda f: jaxcam.lime(
        f, IMAGES, 0, segments=SEGMENTS, num_segments=6, num_samples=8, chunk=4
    ),
    "mask": lambda f: jaxcam.mask(
        f, IMAGES, 0, variant=jaxcam._explainers.mask.MASK_VARIANTS["jacobgil"]._replace(steps=2)
    ),
    "score_cam": lambda f: jaxcam.score_cam(f, IMAGES, 0, chunk=2),
    "ablation_cam": lambda f: jaxcam.ablation_cam(f, IMAGES, 0, chunk=2),
    "deletion": lambda f: metrics.deletion(f, IMAGES, SALIENCY, 0, step=0.25, chunk=2),
    "average_drop": lambda f: metrics.average_drop(f, IMAGES, SALIENCY, 0, top=0.5),
    "box_from_map": lambda f: metrics.box_from_map(SALIENCY),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_called_again_is_not_compiled_again(name):
    call = CALLS[name]
    call(network(1.0))
    model = network(2.0)
    again, found = compilations(lambda: call(model))
    assert again == 0
    # as the same call compiled whole: other numbers, and not those of the first model
    expected = jax.jit(lambda: call(model))()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_model_that_has_learnt_is_asked_as_it_is_now():
    """Also with `progress`, whose Python loop compiles the model for the call alone."""
    learnt = {"forward": network(1.0)}
    model = lambda images: learnt["forward"](images)
    options = {"num_masks": 4, "chunk": 2, "grid": 3}
    for progress in (None, lambda done, total: None):
        learnt["forward"] = network(1.0)
        first = jaxcam.rise(model, IMAGES, 0, progress=progress, **options)
        learnt["forward"] = network(-1.0)
        second = jaxcam.rise(model, IMAGES, 0, progress=progress, **options)
        fresh = jaxcam.rise(network(-1.0), IMAGES, 0, **options)
        np.testing.assert_allclose(second, fresh, rtol=1e-5, atol=1e-6)
        assert np.abs(second - first).max() > 1e-2


def resident():
    """KiB of memory that are the process's own now."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1])
    pytest.skip("the system does not say")


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_calls():
    calls = [CALLS[name] for name in ("rise", "score_cam", "deletion", "box_from_map")]

    def all_of_them():
        for call in calls:
            call(network(1.0))

    for _ in range(3):
        all_of_them()
    before = resident()
    for _ in range(30):
        all_of_them()
    # 120 calls: 300 MB when each was compiled anew
    assert resident() - before < 30 * 1024


def test_inside_a_transformation_it_is_the_function_alone():
    body = lambda c, x: (c + x, c)
    looped = lambda xs: loops.scan(body, jnp.zeros(()), xs)[0]
    xs = jnp.arange(4.0)
    np.testing.assert_allclose(jax.grad(looped)(xs), np.ones(4))
    np.testing.assert_allclose(jax.vmap(looped)(jnp.stack([xs, 2 * xs])), [6, 12])
    closed = lambda scale: loops.map(lambda x: scale * x, xs).sum()
    np.testing.assert_allclose(jax.grad(closed)(2.0), 6)
    with jax.disable_jit():
        np.testing.assert_allclose(looped(xs), 6)


def test_python_that_is_called_from_a_loop_is_not_mistaken_for_other_python():
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    for value in (1.0, 2.0):
        host = lambda x, value=value: np.float32(value) * x
        call = lambda x, host=host: jax.pure_callback(host, shape, x, vmap_method="sequential")
        np.testing.assert_allclose(loops.map(call, jnp.ones(3)), np.full(3, value))


def test_arrays_inside_a_program_tell_it_from_others():
    """Also long ones that a function has as constants of its own."""
    for value in (1, 2):
        table = np.full(5000, value, np.float32)
        found = eager.once(jax.jit(lambda x, table=table: x + table.sum() + table[0]), jnp.ones(2))
        np.testing.assert_allclose(found, 1 + 5001 * np.full(2, value))


def test_places_tell_programs_apart():
    for device in jax.devices()[:2]:
        xs = jax.device_put(jnp.arange(3.0), device)
        assert eager.once(lambda x: x + 1, xs).devices() == {device}


def test_programs_that_are_long_unused_make_room(monkeypatch):
    monkeypatch.setattr(eager, "KEPT", 2)
    monkeypatch.setattr(eager, "_compiled", type(eager._compiled)())
    for size in (1, 2, 1, 3):
        eager.once(lambda x: 2 * x, jnp.ones(size))
    assert len(eager._compiled) == 2
    for size, expected in ((1, 0), (2, 1)):
        xs = jnp.ones(size)
        again, _ = compilations(lambda xs=xs: eager.once(lambda x: 2 * x, xs))
        assert again == expected


def test_the_last_odd_batch_is_no_program_of_its_own():
    called = devices.over_devices(lambda params, batch: params * batch["x"], jax.devices()[:1])
    one = {"x": np.arange(5.0, dtype=np.float32)}
    size = jax.local_device_count()
    params = jnp.float32(2)
    devices.in_batches(called, params, {"x": np.zeros(size, np.float32)}, 1)
    again, found = compilations(lambda: devices.in_batches(called, params, one, 1))
    assert again == 0
    np.testing.assert_array_equal(found, 2 * one["x"])

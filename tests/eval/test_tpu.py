"""What is compiled for TPUs that are not there: the counts by hand, and small cases for real."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.costs import chips, compiled, rows, speed, topology, tpu
from jaxcam import loops

needs_libtpu = pytest.mark.skipif(not tpu.installed(), reason="libtpu is not installed")


def passes(function, *shapes):
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return compiled.passes(jax.make_jaxpr(function)(*args).jaxpr)


def convolve(images, kernel, **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        images, kernel, padding=[(1, 1), (1, 1)], dimension_numbers=numbers, **options
    )


def test_products_are_counted_by_their_precision_and_loops_by_their_rounds():
    images, kernel = (2, 8, 8, 4), (3, 3, 4, 4)
    once = 2 * 2 * 8 * 8 * 4 * (3 * 3 * 4)
    convolved = lambda x, k, **options: convolve(x, k, window_strides=(1, 1), **options)
    assert passes(convolved, images, kernel) == once
    high = lambda x, k: convolved(x, k, precision="highest")
    assert passes(high, images, kernel) == 6 * once
    looped = lambda x, k: jax.lax.scan(lambda c, _: (high(c, k), None), x, None, length=5)[0]
    assert passes(looped, images, kernel) == 30 * once
    grouped = lambda x, k: convolved(x, k, feature_group_count=2)
    assert passes(grouped, images, (3, 3, 2, 4)) == once / 2
    # of the gradient of a strided convolution only what is no inserted zero
    wide = lambda x, k: convolve(x, k, window_strides=(1, 1), lhs_dilation=(2, 2))
    assert passes(wide, images, kernel) == 2 * 2 * 15 * 15 * 4 * (3 * 3 * 4 // 4)
    batched = lambda a, b: jnp.einsum("bij,bjk->bik", a, b, precision="high")
    assert passes(batched, (3, 4, 5), (3, 5, 7)) == 3 * 2 * 3 * 4 * 5 * 7
    low = lambda x, k: high(x.astype(jnp.bfloat16), k.astype(jnp.bfloat16))
    assert passes(low, images, kernel) == once


TEXT = """HloModule a
%fused (p: f32[4]) -> f32[4] {
  %t.1 = f32[8,3]{1,0:T(8,128)} transpose(%p)
}
ENTRY %main (x: f32[8,3]) -> f32[8,3] {
  %x = f32[8,3]{1,0:T(8,128)} parameter(0)
  %y = bf16[16,256]{1,0:T(8,128)(2,1)} fusion(%x), kind=kLoop, calls=%fused, \
backend_config={"estimated_cycles":"12"}
  %s = (f32[4]{0:T(128)}, f32[4]{0:T(128)}) all-reduce-start(%x), channel_id=1
  ROOT %c = f32[2]{0:T(128)} custom-call(%y), custom_call_target="xla_python_cpu_callback"
}
"""


def test_what_stands_in_a_program_is_read():
    # 8 x 3 lies as 8 x 128; 16 x 256 is whole
    assert compiled.padding(TEXT) == (8 * 128 + 16 * 256) / (8 * 3 + 16 * 256)
    assert compiled._operations(TEXT) == {"transpose": 1}
    assert compiled._collectives(TEXT) == {"all-reduce": 2 * 4 * 4}
    assert compiled._TARGET.findall(TEXT) == ["xla_python_cpu_callback"]
    assert compiled._CYCLES.findall("\n".join(compiled._entry(TEXT))) == ["12"]


def row(**changes):
    base = {
        "name": "forward",
        "chips": 1,
        "device": "TPU v5 lite",
        "compile_seconds": 1.0,
        "flops": 197e9,
        "passes": 0.0,
        "traffic": 1.0,
        "arguments": 1,
        "results": 0,
        "temporaries": 0,
        "cycles": 4,
        "padding": 1.0,
        "operations": {},
        "collectives": {},
        "calls": [],
        "types": ["f32"],
    }
    return tpu._timed({**base, **changes})


def test_the_roofline_is_the_longer_of_products_and_memory():
    assert row()["seconds"] == pytest.approx(1e-3)
    assert (row()["bound"], row()["fits"]) == ("products", True)
    slow = row(traffic=819e9)
    assert (slow["seconds"], slow["bound"]) == (pytest.approx(1.0), "memory")
    assert row(passes=6 * 197e9)["seconds"] == pytest.approx(6e-3)
    assert not row(temporaries=16 * 2**30)["fits"]
    with pytest.raises(ValueError, match=r"device: got 'TPU v9', expected one of TPU v4, TPU v5"):
        chips.of("TPU v9")


def test_the_table_says_what_is_dear_or_wrong():
    dear = row(
        name="dear",
        flops=394e9,
        cycles=12,
        operations={"while": 1, "copy": 9, "transpose": 2},
        padding=3.0,
        types=["f32", "f64"],
        calls=["xla_python_cpu_callback"],
        collectives={"all-gather": 2_000_000},
    )
    lines = tpu.table([row(), dear, {"name": "bad", "chips": 4, "error": "No"}]).splitlines()
    assert "| 2.00 | 3.00 | products | all-gather 2 MB |" in lines[3]
    remarks = "1 loops, a round of each counted; 9 copy; padded x3.0; float64; xla_python_cpu"
    assert remarks in lines[3]
    assert lines[4].endswith("| No |")
    assert len({line.count("|") for line in lines}) == 1


def test_without_libtpu_the_command_says_so(monkeypatch):
    monkeypatch.setattr(tpu, "installed", lambda: False)
    with pytest.raises(ImportError, match="--compile-for: libtpu is not installed: pip install"):
        speed.main(speed.Settings(compile_for="v5e:2x2"))


def test_a_choice_of_chips_is_checked(monkeypatch):
    monkeypatch.setattr(tpu, "installed", lambda: True)
    with pytest.raises(ValueError, match="chips: got 'few', expected any of one, all"):
        next(tpu.compiled(tpu.Request("v5e:2x2", chips=("few",))))


def test_a_row_of_the_same_program_is_not_compiled_again():
    lowered = jax.jit(lambda x: x + 1).lower(jnp.ones(2))
    traced = topology.Traced(lowered, jax.make_jaxpr(lambda x: x + 1)(jnp.ones(2)))
    before = {"program": traced.digest(), "flops": 7.0}
    assert topology._outcome(lambda: traced, before) is before
    other = topology.Traced(jax.jit(lambda x: x + 2).lower(jnp.ones(2)), traced.jaxpr)
    assert topology._outcome(lambda: other, before)["flops"] == 2.0
    assert topology._outcome(lambda: other, None)["program"] == other.digest()


def test_what_is_written_already_is_handed_on(monkeypatch, tmp_path):
    """A stopped run says what it did not come to; another one goes on, and rows not named stay."""
    monkeypatch.setattr(tpu, "_PACKAGES", ("jax",))
    output = tmp_path / "v5e.json"
    request = tpu.Request("v5e:2x2", chips=("one",))
    handed = []

    def run(names, stopped=None):
        def compiled(request, kept):
            handed.append([each["name"] for each in kept])
            for name in names:
                yield {"name": name, "chips": 1, "device": "TPU v5 lite", "error": "not yet"}
            for name in names:
                if name == stopped:
                    return
                yield row(name=name, program=name)

        monkeypatch.setattr(tpu, "compiled", compiled)
        tpu.report(dataclasses.replace(request, methods=() if len(names) > 1 else names), output)
        held = json.loads(output.read_text())["rows"]
        return {each["name"]: each.get("error") for each in held}

    assert run(("forward", "rise"), stopped="rise") == {"forward": None, "rise": "not yet"}
    assert run(("rise",)) == {"rise": None, "forward": None}
    assert list(run(("forward", "rise"))) == ["forward", "rise"]
    assert run(("forward", "lrp")) == {"forward": None, "lrp": None}
    assert handed == [[], ["forward"], ["rise", "forward"], ["forward", "rise"]]
    assert set(tpu.kept(request, output)) == {("forward", 1), ("lrp", 1)}
    assert not tpu.kept(dataclasses.replace(request, batch=4), output)
    monkeypatch.setattr(tpu, "_versions", lambda: {"jax": "0"})
    assert not tpu.kept(request, output)


def test_loops_for_another_platform_are_left_as_they_are():
    channels_first = ("NCHW", "OIHW", "NCHW")
    body = lambda c, _: (
        jax.lax.conv_general_dilated(c, kernel, (1, 1), "SAME", dimension_numbers=channels_first),
        None,
    )
    kernel = jnp.ones((2, 2, 3, 3))
    looped = lambda x: loops.scan(body, x, jnp.arange(2))[0]
    shape = jax.ShapeDtypeStruct((1, 2, 4, 4), jnp.float32)
    assert "transpose" in str(jax.make_jaxpr(looped)(shape))
    with loops.compiling_for("tpu"):
        assert "transpose" not in str(jax.make_jaxpr(lambda x: looped(x))(shape))
    assert "transpose" in str(jax.make_jaxpr(lambda x: looped(x))(shape))


def test_every_row_can_be_shared_by_a_mesh():
    """Traced only. JAX's own `rankdata` (0.10) does not go under `shard_map`."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("device",))
    spec = jax.sharding.PartitionSpec
    batch = rows.arrays(2 * jax.device_count(), 48)
    found = rows.explainers(["layer1", "layer2"], 64) | rows.measures()
    image = jax.ShapeDtypeStruct((1, 48, 48, 3), jnp.float32)
    for ranked in ("spearman", "hog_similarity"):
        del found[ranked]
    shapes = {}
    for name, each in found.items():
        network = rows.network(rows.SMALL, attention=each.attention)
        variables = jax.eval_shape(network.init, jax.random.key(0), image)
        run = rows.called(each, network)
        shared = jax.shard_map(
            run, mesh=mesh, in_specs=(spec(), spec("device")), out_specs=spec("device")
        )
        shapes[name] = jax.eval_shape(shared, variables, batch)
    for name in ("rise", "lime", "mask", "lrp"):
        assert shapes[name].shape == (2 * jax.device_count(), 48, 48)


FOSTERING = "fostering/layer2, pmap"
EXPLAINED = ("grad_cam/layer2", "relevance_cam/layer2", "rise", "deletion, 8 steps")


@pytest.fixture(scope="module")
def on_tpus():
    names = [f"{name}, shard_map" for name in EXPLAINED]
    request = tpu.Request("v5e:2x2", methods=(*names, FOSTERING), chips=("all",), batch=2)
    return {each["name"]: each for each in tpu.compiled(request)}


@needs_libtpu
def test_programs_for_tpus_have_what_they_need_and_no_more(on_tpus):
    assert len(on_tpus) == 5
    for name, each in on_tpus.items():
        assert "error" not in each, each
        assert each["device"] == "TPU v5 lite"
        assert not [call for call in each["calls"] if "callback" in call or "python" in call], name
        assert "f64" not in each["types"]
        assert each["fits"]
        assert 0 < each["flops"] < 1e10
    # The games rank pixels, and RISE shifts each mask by its own.
    for name in ("grad_cam/layer2, shard_map", "relevance_cam/layer2, shard_map", FOSTERING):
        assert not {"gather", "scatter", "while"} & set(on_tpus[name]["operations"]), name


@needs_libtpu
def test_chips_speak_to_each_other_in_training_only(on_tpus):
    for name in EXPLAINED:
        assert on_tpus[f"{name}, shard_map"]["collectives"] == {}
    assert list(on_tpus[FOSTERING]["collectives"]) == ["all-reduce"]

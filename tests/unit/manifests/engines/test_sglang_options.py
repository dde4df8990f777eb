"""Flags that users add: parsed as the engine would, refused where the product sets them, whatever their spelling."""

from __future__ import annotations

import pytest
from wideloop.manifests.deployment import Knobs
from wideloop.manifests.engines import get_engine, sglang_disaggregation, sglang_flags
from wideloop.manifests.engines.sglang_option_checks import MANAGED, ON_REQUEST, REPLACEABLE
from wideloop.manifests.engines.sglang_options import OptionError, parse

from tests.engine_parser.write_tables import DYNAMO, VERSIONS, merged, table_of
from tests.unit.manifests.engines.test_dynamo_sglang import command, site
from tests.unit.manifests.engines.test_sglang_checks import spec
from tests.unit.manifests.engines.test_sglang_parser import environment

ENGINE = get_engine("dynamo-sglang")
WIDE = ENGINE.resolve(spec(hardware="h200-32"))


def findings(*options, of=WIDE):
    return ENGINE.option_findings("engine_options", options, of)


@pytest.mark.parametrize(
    "options",
    [
        ["--mem-fraction-static", "0.9"],
        ["--mem-fraction-static=0.9"],
        ["--mem-frac", "0.9"],
        ["--tensor-parallel-size", "8"],
        ["--tp", "8"],
        ["--tp-size=8"],
        ["--expert-parallel-size", "4"],
        ["--deepep-mode", "auto"],
        ["--cuda-graph-bs-decode", "1", "2", "64"],
        ["--ep-num-redundant", "32"],
        ["--kv-cache-dtype", "fp8_e4m3", "--chunked-prefill-size=4096"],
        ["--nnod", "4"],
    ],
    ids=" ".join,
)
def test_a_flag_that_the_product_sets_is_refused_in_every_spelling(options):
    (finding,) = findings(*options)
    assert finding.severity == "error" and finding.id == "repeated-flag" and "Use" in finding.suggestion


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mem_fraction_static", "0.9"], "Did you mean --mem-fraction-static"),
        (["--no-such-flag"], "unrecognized arguments"),
        (["--attention-backend", "fa9"], "invalid choice"),
        (["--page-size", "many"], "invalid int value"),
        (["--kv-cache-dtype"], "expected one argument"),
        (["stray"], "unrecognized arguments"),
    ],
)
def test_what_the_engines_parser_refuses_is_refused_with_its_words(options, message):
    (finding,) = findings(*options)
    assert message in str(finding) and finding.severity == "error"


@pytest.mark.parametrize(
    "options", [["--kv-cache-dtype", "fp8_e4m3"], ["--decode-log-interval", "1"], ["--skip-tokenizer-init"], []]
)
def test_other_flags_pass(options):
    assert findings(*options) == []


def test_a_flag_with_a_parameter_is_refused_only_where_the_parameter_is_given():
    assert findings("--page-size", "64") == []
    paged = ENGINE.resolve(spec(hardware="h200-32", knobs={"decode": Knobs(page_size=64)}))
    (finding,) = findings("--page-size", "32", of=paged)
    assert "page_size" in finding.suggestion


def test_a_flag_that_may_be_replaced_is_a_warning():
    (finding,) = findings("--disaggregation-transfer-backend", "mooncake")
    assert (finding.severity, finding.name) == ("warning", "replaced-flag")


@pytest.mark.parametrize(("drafts", "told"), [(1, False), (2, True), (6, True)])
def test_draft_tokens_are_held_against_deepeps_buffers(drafts, told):
    options = ("--speculative-algorithm", "EAGLE", "--speculative-num-draft-tokens", str(drafts))
    found = findings(*options)
    assert [f.name for f in found] == (["draft-tokens"] if told else [])
    roomy = ENGINE.resolve(
        spec(hardware="h200-32", knobs={"decode": Knobs(deepep_dispatch_tokens=768, cuda_graph_max_bs=128)})
    )
    assert findings(*options, of=roomy) == []


@pytest.mark.parametrize(
    ("in_flight", "knobs", "told"),
    [
        (16 * 128, {}, False),
        (16 * 129, {}, True),
        (16384, {}, True),
        (16384, {"max_running_requests": 16 * 128}, False),
        (16384, {"deepep_dispatch_tokens": 1024}, False),
        (16384, {"deepep_mode": "normal"}, False),
    ],
)
def test_the_load_is_held_against_deepeps_buffers(in_flight, knobs, told):
    given = ENGINE.resolve(spec(hardware="gke-b200-32", knobs={"decode": Knobs(**knobs)}))
    assert [f.name for f in ENGINE.load_findings(given, in_flight)] == (["dispatch-limit"] if told else [])


def test_a_version_between_two_known_ones_takes_the_flags_of_either():
    assert parse(["--attn-dp-size", "8"], "0.5.22", dynamo=False) == {"--attn-dp-size": 8}
    with pytest.raises(OptionError):
        parse(["--attn-dp-size", "8"], "0.5.21", dynamo=False)


def test_dynamos_own_flags_are_known_under_dynamo_only():
    routes = ["--engine-route", "get_weights:tm"]
    assert parse(routes, "0.5.21", dynamo=True)
    with pytest.raises(OptionError):
        parse(routes, "0.5.21", dynamo=False)


@pytest.mark.parametrize("version", ["0.5.17", "0.5.21", "0.5.23"])
def test_every_flag_that_the_product_sets_is_listed(version):
    everything = {
        "prefill": Knobs(expert_placement="/p.json", eplb="static", redundant_experts=32, two_batch_overlap=True),
        "decode": Knobs(
            eplb="online", eplb_algorithm="deepseek", max_running_requests=64, max_total_tokens=9, context_length=9,
            radix_cache=False, page_size=64, attention_backend="fa3", redundant_experts=32,
        ),
    }  # fmt: skip
    full = ENGINE.resolve(spec(hardware="h200-32", version=version, knobs=everything)).changed(record_experts="stat")
    own = {"--engine-route"}
    for role in ("prefill", "decode"):
        flags = {a for a in command(full, role).argv if a.startswith("--")}
        assert flags - own <= {*MANAGED, *ON_REQUEST, *REPLACEABLE}
        worker = full.worker(role)
        replaceable = (*sglang_flags.replaceable_args(full, worker), *sglang_disaggregation.replaceable_args(worker))
        assert {a for a in replaceable if a.startswith("--")} <= REPLACEABLE


def test_the_products_flags_come_after_the_users():
    with_options = WIDE.changed(workers=tuple(w.changed(options=("--kv-cache-dtype", "auto")) for w in WIDE.workers))
    argv = command(with_options, "decode", options=("--log-level", "info")).argv
    transfer, cluster, own, fraction = map(
        argv.index, ("--disaggregation-transfer-backend", "--log-level", "--kv-cache-dtype", "--mem-fraction-static")
    )
    assert transfer < cluster < own < fraction
    assert site().options == ()


def test_a_workers_own_flags_are_judged_by_its_engine_and_are_in_its_fingerprint():
    wrong = WIDE.changed(workers=tuple(w.changed(options=("--tp", "4")) for w in WIDE.workers))
    fields = [f.field for f in ENGINE.validate(wrong) if f.id == "repeated-flag"]
    assert fields == ["prefill_engine_options", "decode_engine_options"]
    assert wrong.fingerprint != WIDE.fingerprint
    assert WIDE.changed(options=("--log-level", "info")).fingerprint != WIDE.fingerprint


def test_specs_that_use_none_of_the_new_fields_keep_their_fingerprints():
    assert "options" not in WIDE.model_dump_json() and "radix_cache" not in WIDE.model_dump_json()
    assert type(WIDE).model_validate_json(WIDE.model_dump_json()) == WIDE


@pytest.mark.parametrize("version", [*VERSIONS, DYNAMO])
def test_the_table_is_that_of_the_engines_parser(version):
    environment("sglang-parser-0.5.21"), environment("simulated")  # Skips, or fails in CI, without them.
    from wideloop.manifests.engines.sglang_options import _rows

    ours = [row[:4] for row in _rows(version)]
    assert ours == [row[:4] for row in merged({version: table_of(version)})]

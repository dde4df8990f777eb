"""What an engine refuses of its configuration."""

from __future__ import annotations

from wideloop.manifests.failures.cause import Cause, cause

CAUSES: tuple[Cause, ...] = (
    cause(
        "bad_configuration",
        r"(?:^|: )error: (?P<what>(?:unrecognized|ambiguous|argument|the following arguments|invalid|expected|"
        r"one of)[^\n]{0,200})",
        "the engine refused its flags: {what}",
        "Check engine_options, and that engine_version is the one in the image",
    ),
    cause(
        "bad_configuration",
        r"PD different TP sizes|different (?:attention )?TP sizes?|(?:prefill|"
        r"decode).{0,60}tp_?size.{0,40}(?:differ|mismatch|"
        r"must|equal)|TP size mismatch",
        "prefill and decode have different attention TP, which this model cannot transfer between",
        "Give both roles the same TP divided by DP (attention TP)",
        infeasible=True,
    ),
    cause(
        "bad_configuration",
        r"(?:input|prompt|request).{0,40}(?:longer|exceeds?).{0,40}context|context[_ ]length.{0,60}(?:greater|"
        r"larger|exceed)|"
        r"max_model_len.{0,60}(?:greater|larger|exceed)",
        "requests are longer than the model's context",
        "Lower ISL + OSL, or raise the engine's context length",
    ),
    cause(
        "bad_configuration",
        r"^(?:NotImplementedError|pydantic\S*ValidationError|\S*ArgumentError|\S*ConfigError): ?(?P<what>[^\n]{0,200})|"
        r"(?P<rule>(?:--[\w-]+|\w+_\w+) (?:requires|needs|conflicts with|(?:is|are) (?:not supported|incompatible|"
        r"required|only supported))[^\n]{0,120})|"
        r"(?P<pair>[^\n]{0,80}cannot be (?:used|combined|enabled) (?:with|together)[^\n]{0,80})",
        "the engine refused its configuration",
        "Change the options that the message names",
    ),
)

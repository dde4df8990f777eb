"""The fixed prompts whose answers are compared between deployments."""

from __future__ import annotations

_TOPICS = (
    *("why the sky is blue", "how vaccines work", "the causes of the First World War", "what inflation is"),
    *("how a compiler works", "the water cycle", "the rules of chess", "how bread is baked", "black holes"),
    *("photosynthesis", "the French Revolution", "how the internet routes a packet", "supply and demand"),
    *("plate tectonics", "the plot of Hamlet", "how a fridge cools", "public-key cryptography", "the immune system"),
    *("how planes fly", "mixture-of-experts models"),
)
_FORMS = (
    "Explain {} in one sentence.",
    "Write three short bullet points about {}.",
    "Erkläre in einem Satz: {}.",
    "Write a Python comment of two lines about {}.",
    "Ask one hard exam question about {} and answer it.",
)
#: 100 prompts. The first ones differ in form, so that a part of them is a fair sample.
PROMPTS = tuple(
    _FORMS[(number + turn) % len(_FORMS)].format(topic)
    for turn in range(len(_FORMS))
    for number, topic in enumerate(_TOPICS)
)

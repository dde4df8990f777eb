"""The model's files, the tokenizer, the hub, and what the engine says about them."""

from __future__ import annotations

from wideloop.manifests.failures.cause import Cause, cause

CAUSES: tuple[Cause, ...] = (
    cause(
        "storage_unavailable",
        r"SafetensorError|safetensors?.{0,160}(?:deserializ|truncat|corrupt|incomplete|invalid|header)|HeaderTooLarge|"
        r"InvalidHeader\w*|MetadataIncompleteBuffer|incomplete metadata|PytorchStreamReader failed|invalid load key|"
        r"unexpected EOF|header too (?:large|small)|git-lfs|UnpicklingError",
        "a file of the model is cut short or damaged",
        "Run wideep_weights: it compares every file with its size and loads again what differs",
    ),
    cause(
        "storage_unavailable",
        r"does not appear to have a file named|outgoing traffic has been disabled|"
        r"(?:Cannot|could not|unable to) find any model weights|(?:No|Missing) (?:\.?safetensors|weight|"
        r"shard)\w*.{0,60}"
        r"(?:found|files?)|FileNotFoundError: .{0,200}(?:safetensors|\.bin|config\.json|tokenizer)|missing shards?|"
        r"model-\d+-of-\d+\.safetensors.{0,80}(?:not found|does not exist|No such file)",
        "files of the model are missing",
        "Run wideep_weights, and check model_path",
    ),
    cause(
        "bad_configuration",
        r"GatedRepoError|gated repo|access to model .{0,80}restricted|(?:HTTP|Client) ?Error: ?(?:401|403)|"
        r"(?:401|403) (?:Client Error|Unauthorized|Forbidden)|Invalid username or password|Invalid user token",
        "the hub refuses the model to this token",
        "Accept the model's licence with the token's account, give the token read rights, and put it into "
        "WIDELOOP_CLUSTER__HF_TOKEN_SECRET",
    ),
    cause(
        "bad_configuration",
        r"RepositoryNotFoundError|RevisionNotFoundError|404 Client Error|"
        r"is not a local folder and is not a valid model|"
        r"Repo id must|HFValidationError|EntryNotFoundError.{0,40}404",
        "the hub has no such model, revision or file",
        "Correct the model's name, or WIDELOOP_CLUSTER__MODEL_REVISIONS",
    ),
    cause(
        "crashed",
        r"429 Client Error|Too Many Requests|(?:500|502|503|504) Server Error|LocalEntryNotFoundError|"
        r"(?:huggingface|hf\.co|hub).{0,120}(?:time-?d? ?out|Max retries|ConnectionError|unreachable|offline)|"
        r"couldn't connect to .{0,40}huggingface|OfflineModeIsEnabled|cannot reach .{0,40}huggingface",
        "the hub did not answer, or limits the rate of requests",
        "Try again later, set WIDELOOP_CLUSTER__HUB_ENDPOINT to a mirror, or fill the model cache first "
        "(wideep_weights)",
    ),
    cause(
        "bad_configuration",
        r"tokenizer.{0,160}(?:not found|can't load|cannot load|could not|missing|does not exist|fail|invalid|unable)|"
        r"(?:can't|cannot|could not|unable to) (?:load|instantiate|find|build).{0,40}tokenizer|tokenizer\.(?:json|"
        r"model)\b|"
        r"sentencepiece|tiktoken|data did not match any variant|Tokenizer class .{0,60}(?:does not exist|not)",
        "the tokenizer of the model could not be loaded",
        "Check that the model's folder holds its tokenizer files, and that the engine's version can read them "
        "(--trust-remote-code where the model brings its own)",
    ),
    cause(
        "bad_configuration",
        r"architectures? .{0,120}not (?:currently )?supported|does not recognize this architecture|"
        r"Unrecognized (?:model|configuration class)|No (?:module|model) .{0,40}registered for|trust_remote_code|"
        r"Unknown quantization|quantization method .{0,60}(?:not supported|unknown|does not match)|"
        r"(?:model type|model_type) .{0,60}(?:not supported|unknown)|Unsupported (?:quantization|model)",
        "this version of the engine does not know the model or its quantisation",
        "Use another engine_version and image, or another model",
    ),
    cause(
        "bad_configuration",
        r"(?:is|are) not divisible by|must be (?:evenly )?divisible|should be divisible|not a multiple of|"
        r"num_physical_experts % ep_size|% \S*(?:size|ranks?)\)? == 0|indivisible",
        "a size of the model cannot be divided by its layout",
        "Choose another TP or EP: weights must split into whole quantisation blocks and tiles, and (experts + "
        "redundant) "
        "must be a multiple of EP",
        infeasible=True,
    ),
    cause(
        "bad_configuration",
        r"size mismatch|shape mismatch|(?:loaded|expected|param).{0,60}shape.{0,60}(?:!=|match|mismatch|but got)|"
        r"(?:KeyError|not found in params).{0,60}(?:weight|experts|layers)|Missing key\(s\) in state_dict|"
        r"weights? .{0,60}not initialized from checkpoint",
        "the weights do not fit the model's configuration",
        "Check that config.json belongs to these weights, and that the engine's version supports their quantisation",
    ),
)

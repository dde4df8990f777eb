"""Whether images can be pulled, and whether the hub gives the model to our token."""

from __future__ import annotations

import base64

from wideloop.manifests.clients.base import LoadGenerator
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import ApiRefused, Refused, TargetError
from wideloop.manifests.findings import Finding
from wideloop.manifests.hub import hub_model
from wideloop.manifests.kubernetes.image_build import client_image
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.image import registry
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult
from wideloop.operators.targets.kubernetes.registry import RegistryUnreachable

_HUB = "https://huggingface.co"
_KEY = "HF_TOKEN"
#: Answers of a hub that limits the rate of requests, or fails by itself: they say nothing about the token.
_LIMITED, _FAILED = 429, 500


def check_images(
    api: Api, options: ClusterOptions, spec: DeploymentSpec, generator: LoadGenerator
) -> list[CheckResult]:
    """The engine's image, by digest, and the load generator's."""
    try:
        registries = registry(api, options)
        of_client = client_image(options, generator.environment)
    except Refused as error:
        return [CheckResult("client image", "", error.findings)]
    except TargetError as error:
        return [
            CheckResult("images", "", (_finding("registry_secret", options.login_secret, str(error), "Make it anew"),))
        ]
    checks = []
    for name, image in (("engine image", options.image(spec.image)), ("client image", of_client)):
        try:
            digest = registries.digest(image)
        except RegistryUnreachable as error:
            checks.append(CheckResult(name, f"{image}: {error}", made=False))
        except TargetError as error:
            checks.append(
                CheckResult(name, "", (_finding(name.replace(" ", "_"), image, str(error), "See the registry"),))
            )
        else:
            action = "Run wideep_image, or correct it"
            missing = (_finding(name.replace(" ", "_"), image, "is not in its registry", action),)
            checks.append(CheckResult(name, f"{image} is {digest}", () if digest else missing))
    return checks


def check_hub(api: Api, options: ClusterOptions, spec: DeploymentSpec) -> CheckResult:
    """Whether the token's secret is there and the hub would give the model to it."""
    name = "Hugging Face hub"
    if not get_engine(spec.engine).needs_weights:
        return CheckResult(name, "not needed: this engine makes its model")
    secret = options.hf_token_secret
    token = None
    if secret is not None:
        try:
            secret_document = api.get(f"/api/v1/namespaces/{options.namespace}/secrets/{secret}")
        except ApiRefused as error:
            if error.status != 403:
                raise
            return CheckResult(name, f"may not read secret {secret}", made=False)
        text = ((secret_document or {}).get("data") or {}).get(_KEY)
        if text is None:
            rule = f"lacks the key {_KEY}" if secret_document else "does not exist"
            make = f"kubectl -n {options.namespace} create secret generic {secret} --from-literal={_KEY}=..."
            return CheckResult(name, "no token", (_finding("hf_token_secret", secret, rule, f"Make it: {make}"),))
        token = base64.b64decode(text).decode().strip()
    if spec.model_path.startswith("/"):
        return CheckResult(name, "not asked: the model is in the cache")
    repository = hub_model(spec.model.name, options.model_revisions).repository
    return _ask_hub(name, repository, token, options)


def _ask_hub(name: str, repository: str, token: str | None, options: ClusterOptions) -> CheckResult:
    """A warning at most: engines load from the cache, and the Job that fills it reports its own failures."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        # Its requests end after ten seconds. Without a token: not that of whoever runs Airflow.
        HfApi(endpoint=options.hub_endpoint).auth_check(repository, token=token or False)
    except GatedRepoError:
        who = "this token's account has not accepted its licence" if token else "it needs a token"
        rule = f"{repository} is gated, and {who}"
        action = f"Accept its licence at {options.hub_endpoint or _HUB}/{repository} with the token's account"
    except RepositoryNotFoundError:
        rule, action = f"the hub shows no {repository} to {'this token' if token else 'anyone'}", "Check token and name"
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == _LIMITED or status >= _FAILED:
            return CheckResult(name, f"has no time now (HTTP {status})", made=False)
        rule, action = f"the hub refuses us: {error}", "Make a new token: this one is not, or no longer, valid"
    except Exception as error:  # Whatever its HTTP client raises where there is no network.
        return CheckResult(name, f"does not answer from here ({type(error).__name__})", made=False)
    else:
        return CheckResult(name, f"gives {repository} to {'our token' if token else 'anyone'}")
    finding = _finding("hf_token_secret", options.hf_token_secret, rule, action)
    return CheckResult(name, rule, (finding.model_copy(update={"severity": "warning"}),))


def _finding(field: str, value: str | None, rule: str, suggestion: str) -> Finding:
    return Finding(field=field, value=value, rule=rule, suggestion=suggestion)

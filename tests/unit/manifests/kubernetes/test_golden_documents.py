"""The documents of each shape of deployment, as files to be read in a diff."""

import pytest
import yaml

from tests.unit.manifests.kubernetes.golden_cases import API_VERSIONS, CASES, FOLDER, shown


@pytest.mark.parametrize("api_version", API_VERSIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_documents_are_those_of_the_golden_file(case, api_version):
    text = shown(case.documents(api_version))
    expected = case.file(api_version).read_text()
    assert text == expected, "if this is meant: python -m tests.unit.manifests.kubernetes.golden_cases"


def test_there_is_no_golden_file_without_a_case():
    assert {p.name for p in FOLDER.glob("*.yaml")} == {c.file(v).name for c in CASES for v in API_VERSIONS}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_documents_survive_yaml(case):
    documents = case.documents("v1beta1")
    assert list(yaml.safe_load_all(yaml.safe_dump_all(documents))) == documents

import copy
import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML
from texts import EVERYTHING

from backup_ops import jobfile

SCHEMA = jobfile.json_schema()


def data(text):
    return YAML(typ="safe", pure=True).load(text)


def complaints(document):
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)]


def test_the_schema_is_one_and_is_plain_json():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize(
    "text", [EVERYTHING, "version: 1", "version: 1\njobs:\nrepositories:\nsettings:\nnotify:\n", jobfile.template()]
)
def test_good_files_are_good_by_the_schema(text):
    assert complaints(data(text)) == []
    assert jobfile.parse(text.encode())


def paths_to_mappings(document, path=()):
    if isinstance(document, dict):
        yield path
        for key, value in document.items():
            yield from paths_to_mappings(value, (*path, key))
    if isinstance(document, list):
        for index, value in enumerate(document):
            yield from paths_to_mappings(value, (*path, index))


@pytest.mark.parametrize("path", list(paths_to_mappings(data(EVERYTHING))), ids=str)
def test_an_unknown_setting_is_refused_at_every_level_by_schema_and_load_alike(path, problems):
    document = copy.deepcopy(data(EVERYTHING))
    place = document
    for key in path:
        place = place[key]
    place["a setting nobody knows"] = 1
    assert complaints(document)
    assert problems(json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [
        lambda photos: photos.update(limits={"priority": 10}),
        lambda photos: photos.update(limits={"priority": "5"}),
        lambda photos: photos.update(guard={"max_delete_percent": 101}),
        lambda photos: photos.update(drill={}),
        lambda photos: photos.update(source="photos"),
        lambda photos: photos.update(source=[]),
        lambda photos: photos.update(hooks={"before": ["/usr/bin/true"]}),
        lambda photos: photos.update(command=["x"]),
        lambda photos: photos.pop("source"),
        lambda photos: photos.pop("repository"),
        lambda photos: photos.update(uid="a/b"),
    ],
)
def test_what_the_schema_refuses_load_refuses_too(change, problems):
    document = copy.deepcopy(data(EVERYTHING))
    change(document["jobs"]["photos"])
    assert complaints(document)
    assert problems(json.dumps(document))


def test_every_setting_is_described_for_the_editor():
    def properties(schema):
        for name, below in schema.get("properties", {}).items():
            yield name, below
            yield from properties(below)

    job = SCHEMA["properties"]["jobs"]["additionalProperties"]
    repository = SCHEMA["properties"]["repositories"]["additionalProperties"]
    for name, below in [*properties(job), *properties(repository), *properties(SCHEMA["properties"]["settings"])]:
        if name not in ("logs", "env", "file", "command", "keyring", "rclone", "restic"):
            assert below.get("description"), name


def test_published_schema_is_the_one_of_the_parameters():
    published = Path(__file__).parents[2] / "docs" / "jobs-yaml.schema.json"
    assert json.loads(published.read_text(encoding="utf-8")) == SCHEMA

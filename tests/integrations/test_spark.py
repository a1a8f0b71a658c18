"""`spark.read.format("millrace")` and its writer, in a real Spark."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

if importlib.util.find_spec("pyspark") is None:
    pytest.skip("Spark is not in this environment: `make integrations` installs it", allow_module_level=True)

from blake3 import blake3
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from millrace.datasets.limits import CHUNKED_ABOVE
from millrace.errors import Invalid
from millrace_sdk import Catalog, Dataset
from millrace_sdk.discovery import Access
from millrace_sdk.integrations import spark as millrace
from millrace_sdk.integrations.spark_options import Options
from millrace_sdk.integrations.spark_read import FileReader
from millrace_stack.stack import Stack

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]
FILES = {f"train/{number % 3}/{number:03d}.txt": f"file {number}".encode() * 40 for number in range(90)}
FILES |= {"big.bin": b"0123456789" * (CHUNKED_ABOVE // 10 + 1), "empty": b""}


def java() -> str | None:
    """Return the program where Java is new enough."""
    home = os.environ.get("JAVA_HOME")
    program = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if program is None:
        return None
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', told)
    return program if found and int(found.group(1)) >= 17 else None


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    if java() is None:
        pytest.skip("no Java 17 or newer on this machine")
    home = tmp_path_factory.mktemp("spark")
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(home),
        "spark.sql.warehouse.dir": str(home / "warehouse"),
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.python.filterPushdown.enabled": "true",
        "spark.driver.memory": "1g",
    }
    environment = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    builder = SparkSession.builder.master("local[2]").appName("millrace")
    for name, value in settings.items():
        builder = builder.config(name, value)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        millrace.register(session)
        yield session
        session.stop()


@pytest.fixture
def access(stack: Stack) -> dict[str, str]:
    """What a job is told that runs where nothing is known of the platform."""
    return {"url": stack.state.urls["gateway"], "token_file": str(stack.layout.owner_token)}


@pytest.fixture
def digits(spark: SparkSession, catalog: Catalog, access: dict[str, str]) -> dict[str, str]:
    """A dataset with files, written by Spark; its options."""
    told = {**access, "dataset": "digits"}
    rows = spark.createDataFrame(list(FILES.items()), "path string, content binary").repartition(4)
    rows.write.format("millrace").options(**told, message="from Spark").mode("overwrite").save()
    return told


def read(spark: SparkSession, told: dict[str, str], path: str | None = None) -> Any:
    reader = spark.read.format("millrace").options(**told)
    return reader.load(path) if path else reader.load()


def test_files_are_written_as_one_version_and_read_as_rows(
    spark: SparkSession, catalog: Catalog, digits: dict[str, str]
) -> None:
    versions = catalog.versions("digits")["items"]
    assert [version["version"] for version in versions] == [1]
    assert versions[0]["message"] == "from Spark"
    assert versions[0]["lineage"]["run"] == f"spark:{spark.sparkContext.applicationId}"
    with Dataset.open("digits@1") as dataset:
        assert dict(dataset.samples()) == FILES
    rows = {row.path: row for row in read(spark, digits).collect()}
    assert {path: bytes(row.content) for path, row in rows.items()} == FILES
    assert {path: row.size for path, row in rows.items()} == {path: len(data) for path, data in FILES.items()}
    assert rows["train/1/001.txt"].blake3 == blake3(FILES["train/1/001.txt"]).hexdigest()


def test_a_task_reads_whole_packs(spark: SparkSession, digits: dict[str, str]) -> None:
    files = read(spark, {**digits, "task_bytes": "1"}).select("path")
    assert files.rdd.getNumPartitions() == 4 + 2, "four tasks wrote a pack each, and two files lie in none"
    assert read(spark, digits).rdd.getNumPartitions() == 1
    assert files.distinct().count() == len(FILES)


def test_patterns_and_versions_name_what_is_read(spark: SparkSession, digits: dict[str, str]) -> None:
    assert read(spark, digits, "train/1/*.txt").count() == 30
    assert read(spark, {**digits, "dataset": "digits@1", "path": "big.*"}).count() == 1
    assert read(spark, {**digits, "version": "1"}, "nothing*").count() == 0
    with pytest.raises(Exception, match="no version 9"):
        read(spark, {**digits, "version": "9"}).count()


def test_no_content_is_fetched_that_nobody_wants(spark: SparkSession, digits: dict[str, str]) -> None:
    """A task that needs no content connects to nothing."""
    bare = StructType(millrace.FILES.fields[:2])
    options = Options.of(digits)
    parts = FileReader(options, bare).partitions()
    nowhere = replace(options, access=Access("http://127.0.0.1:9", "none"))
    found = [batch for part in parts for batch in FileReader(nowhere, bare).read(part)]
    assert sum(batch.num_rows for batch in found) == len(FILES)
    reader = spark.read.format("millrace").options(**digits)
    assert reader.schema("size long").load().groupBy().sum().first()[0] == sum(map(len, FILES.values()))
    with pytest.raises(Exception, match="files have no column"):
        reader.schema("path string, owner string").load().count()


def test_filters_are_pushed_into_the_manifest(spark: SparkSession, digits: dict[str, str]) -> None:
    files = read(spark, {**digits, "pushdown": "true"})
    digest = blake3(FILES["train/2/002.txt"]).hexdigest()
    expected = {
        "path = 'train/0/003.txt'": 1,
        "path in ('train/0/003.txt', 'empty', 'none')": 2,
        "path like 'train/1/%'": 30,
        "path like '%.bin'": 1,
        "path like '%/2/%' and size > 0": 30,
        "not path like 'train/%'": 2,
        "size >= 1000000": 1,
        "size = 0": 1,
        f"blake3 = '{digest}'": 1,
        "blake3 = 'nonsense'": 0,
        "length(path) = 5": 1,
        "size < 300 and content is not null": len([data for data in FILES.values() if len(data) < 300]),
    }
    assert {text: files.where(text).count() for text in expected} == expected


def test_rows_are_put_on_top_or_instead(spark: SparkSession, catalog: Catalog, access: dict[str, str]) -> None:
    told = {**access, "dataset": "spark-heap"}

    def write(mode: str, **files: str) -> None:
        rows = spark.createDataFrame(
            [(path, data.encode()) for path, data in files.items()], "path string, content binary"
        )
        rows.write.format("millrace").options(**told).mode(mode).save()

    write("append", a="1", b="2")
    write("append", b="3", c="4")
    with Dataset.open("spark-heap@2") as dataset:
        assert dict(dataset.samples()) == {"a": b"1", "b": b"3", "c": b"4"}
    write("overwrite", d="5")
    with Dataset.open("spark-heap") as dataset:
        assert dict(dataset.samples()) == {"d": b"5"}
    write("overwrite", d="5")
    assert catalog.dataset("spark-heap")["head"]["version"] == 3


def test_a_write_that_fails_commits_nothing(spark: SparkSession, catalog: Catalog, access: dict[str, str]) -> None:
    told = {**access, "dataset": "broken"}
    good = [(f"{number}", b"x") for number in range(10)]
    for bad, reason in (
        (("../up", b"y"), "up"),
        ((None, b"y"), "never null"),
        (("0", b"twice"), "0"),
    ):
        rows = spark.createDataFrame([*good, bad], "path string, content binary").repartition(2)
        with pytest.raises(Exception, match=reason):
            rows.write.format("millrace").options(**told).mode("overwrite").save()
    assert catalog.dataset("broken")["head"] is None


def test_a_table_is_written_in_parts_and_read_by_columns(
    spark: SparkSession, catalog: Catalog, access: dict[str, str]
) -> None:
    told = {**access, "dataset": "people", "table": "visits"}
    rows = spark.range(1_000).selectExpr("id", "id % 7 as ward", "concat('p', id) as name", "id / 2 as cost")
    rows.repartition(3).write.format("millrace").options(**told).mode("overwrite").save()
    assert list(Dataset.open("people").paths) == [f"visits/part-0000{n}-0000.parquet" for n in range(3)]
    parts = {**access, "dataset": "people@1", "table": "visits/*.parquet"}
    table = read(spark, parts)
    assert [(field.name, field.dataType.simpleString()) for field in table.schema] == [
        ("id", "bigint"),
        ("ward", "bigint"),
        ("name", "string"),
        ("cost", "double"),
    ]
    assert sorted(map(tuple, table.collect())) == sorted(map(tuple, rows.collect()))
    assert table.groupBy("ward").count().count() == 7
    few = spark.read.format("millrace").options(**parts).schema("name string, id long").load()
    assert few.where("id < 3").count() == 3
    rows.limit(5).write.format("millrace").options(**told).mode("append").save()
    assert read(spark, {**parts, "dataset": "people"}).count() == 1_005
    with pytest.raises(Exception, match="has no column 'owner'"):
        spark.read.format("millrace").options(**parts).schema("owner string").load().collect()


def test_text_tables_are_read(spark: SparkSession, catalog: Catalog, access: dict[str, str]) -> None:
    told = {**access, "dataset": "text"}
    files = [
        ("a.csv", b"x,y\n1,one\n2,two\n"),
        ("b.csv", b"x,y\n3,three\n"),
        ("c.tsv", b"x\ty\n4\tfour\n"),
        ("d.txt", b""),
    ]
    spark.createDataFrame(files, "path string, content binary").write.format("millrace").options(**told).mode(
        "overwrite"
    ).save()
    assert sorted(map(tuple, read(spark, {**told, "table": "*.csv"}).collect())) == [
        (1, "one"),
        (2, "two"),
        (3, "three"),
    ]
    assert [tuple(row) for row in read(spark, {**told, "table": "c.tsv"}).collect()] == [(4, "four")]
    typed = spark.read.format("millrace").options(**told, table="a.csv").schema("x string").load()
    assert [row.x for row in typed.collect()] == ["1", "2"]
    for table, reason in (("*.parquet", "has no"), ("d.txt", "is no table")):
        with pytest.raises(Exception, match=reason):
            read(spark, {**told, "table": table}).count()
    with pytest.raises(Exception, match="cannot be read so"):
        spark.read.format("millrace").options(**told, table="a.csv").schema("y int").load().collect()


def test_plans_show_no_token(spark: SparkSession, stack: Stack, digits: dict[str, str], capfd: Any) -> None:
    read(spark, digits).explain("formatted")
    assert stack.layout.owner_token.read_text().strip() not in capfd.readouterr().out
    with pytest.raises(Exception, match="a token is no option"):
        read(spark, {**digits, "token": "mlr_x"})


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"dataset": ""},
        {"dataset": "a/b"},
        {"dataset": "a@1", "version": "2"},
        {"dataset": "a", "colour": "red"},
        {"dataset": "a", "task_bytes": "many"},
        {"dataset": "a", "task_bytes": "0"},
        {"dataset": "a", "pushdown": "perhaps"},
        {"dataset": "a", "project": "Not A Project"},
        {"dataset": "a", "Token": "mlr_x"},
    ],
)
def test_options_that_cannot_be_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        Options.of(given)
    with pytest.raises(Invalid):
        Options.of({"dataset": "a@1"}, writing=True)

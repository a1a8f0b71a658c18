"""A Spark data source on versions: `spark.read.format("millrace")`, and one version for each write.

    from millrace_sdk.integrations import spark as millrace

    millrace.register(spark)
    files = spark.read.format("millrace").option("dataset", "digits@3").load("train/*.png")
    people = spark.read.format("millrace").option("dataset", "people").option("table", "visits.parquet").load()
    people.write.format("millrace").option("dataset", "adults").option("table", "adults").mode("overwrite").save()

Needs the extra `millrace-sdk[spark]` and Java 17, on the driver and on every executor. A token is no option, because
Spark shows options: `token_file` names a file, else the executors' environment is asked, as the command line does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pyspark.sql.datasource import DataSource
from pyspark.sql.types import BinaryType, LongType, StringType, StructField, StructType

from millrace_sdk.integrations import spark_read, spark_write
from millrace_sdk.integrations.spark_options import Options

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FILES = StructType(
    [
        StructField("path", StringType(), nullable=False),
        StructField("size", LongType(), nullable=False),
        StructField("blake3", StringType(), nullable=False),
        StructField("content", BinaryType(), nullable=False),
    ]
)
"""What a version's files look like as rows; whoever names fewer columns by `.schema(…)` gets, and fetches, fewer."""


class MillraceSource(DataSource):  # type: ignore[misc]
    """The format `millrace`. Options: see `millrace_sdk.integrations.spark_options.Options`."""

    application: ClassVar[str | None] = None
    """The application's id, for the lineage of what is written; `register` fills it in."""

    @classmethod
    def name(cls) -> str:
        """Return the format's name."""
        return "millrace"

    def schema(self) -> StructType:
        """Return the columns: of files always the same, of a table its own.

        Raises:
            Invalid: options that cannot be.
            NotFound: no such version, or no such table in it.
        """
        options = Options.of(self.options)
        return spark_read.table_schema(options) if options.table is not None else FILES

    def reader(self, schema: StructType) -> Any:
        """Return what reads those columns."""
        options = Options.of(self.options)
        if options.table is not None:
            return spark_read.TableReader(options, schema)
        spark_read.check_columns(schema, FILES)
        kind = spark_read.PushingFileReader if options.pushdown else spark_read.FileReader
        return kind(options, schema)

    def writer(self, schema: StructType, overwrite: bool) -> Any:
        """Return what writes rows as the files of one version, or as the parts of a table in it."""
        options = Options.of(self.options, writing=True)
        return spark_write.writer(options, schema, overwrite=overwrite, application=self.application)


def register(spark: SparkSession) -> None:
    """Let a session know the format `millrace`."""
    application = spark.conf.get("spark.app.id", None)
    # a class of its own, so that Spark sends it by value, with the application's id, to where nothing is known of it
    spark.dataSource.register(type("MillraceSource", (MillraceSource,), {"application": application}))

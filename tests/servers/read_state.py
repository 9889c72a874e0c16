#!/usr/bin/env python3
"""read_state.py DYNAMODB S3 NAME COMMAND …

Reads and writes tables and objects with boto3, as programs of the former system do. The commands are:

    check COMPLETE QUARANTINED     checks names, types and layout of all records, audit entries and objects, and that
                                   COMPLETE documents are complete and QUARANTINED documents are in quarantine
    put-failed DOCUMENT KEY        puts a record as the former system leaves it when its retries are used up
    recover DOCUMENT               recovers a document as operators of the former system do: sets only `status` and
                                   `retry_count`

DYNAMODB and S3 are endpoints. NAME is the prefix of the tables' names and the name of the bucket. All objects are below
`docs/` in the bucket. `check` prints totals. At the first difference, it prints the reason and exits with code 1."""
import json
import re
import sys
from datetime import datetime, timezone
from decimal import Decimal

import boto3
from boto3.dynamodb.conditions import Key
from botocore.config import Config

STAGES = ["extraction", "chunking", "enrichment", "embedding", "loading"]
METRICS = {
    "extraction": {"pages_extracted", "images_extracted"},
    "chunking": {"chunks_created"},
    "enrichment": {"chunks_enriched", "pii_redacted_count"},
    "embedding": {"tokens_processed", "openai_cost_usd", "embeddings_generated"},
    "loading": {"vectors_uploaded"},
}
EVENTS = {"DOCUMENT_RECEIVED", "STAGE_IN_PROGRESS", "STAGE_COMPLETED", "STAGE_FAILED", "DOCUMENT_COMPLETED",
          "DOCUMENT_FAILED", "STATUS_CHANGE"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
STAMP = re.compile(TIME.pattern + r"#[0-9A-HJKMNP-TV-Z]{26}")
ID = re.compile(r"doc_\d{8}_\d{6}_[0-9a-f]{8}")
DAY = 86_400

dynamodb, s3, name, command, *arguments = sys.argv[1:]
resource = boto3.resource("dynamodb", endpoint_url=dynamodb, region_name="eu-central-1")
objects = boto3.client("s3", endpoint_url=s3, region_name="eu-central-1", config=Config(s3={"addressing_style": "path"}))
control, audit, metrics = (resource.Table(f"{name}-{what}") for what in ("control", "audit", "metrics"))


def need(what, holds, got=None):
    if not holds:
        sys.exit(f"wrong: {what}: {str(got)[:2000]}")


def typed(what, item, **types):
    """Checks that each attribute exists and has the given type. For a pattern, it must be a string that matches."""
    for attribute, kind in types.items():
        value = item.get(attribute)
        right = isinstance(value, str) and kind.fullmatch(value) if isinstance(kind, re.Pattern) else type(value) is kind
        need(f"{what}: `{attribute}` should be {kind}", right, item)


def pages(call, **arguments):
    """Yields all items of a scan or a query, page by page."""
    while True:
        page = call(Limit=7, **arguments)
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def near(seconds, days):
    return abs(float(seconds) - (datetime.now(timezone.utc).timestamp() + days * DAY)) < DAY


def schema(table, hash_key, range_key):
    keys = {key["KeyType"]: key["AttributeName"] for key in table.key_schema}
    need(f"key of {table.name}", keys == {"HASH": hash_key, "RANGE": range_key}, keys)
    types = {a["AttributeName"]: a["AttributeType"] for a in table.attribute_definitions}
    need(f"types of {table.name}", types[hash_key] == types[range_key] == "S", types)


def read(key):
    return json.loads(objects.get_object(Bucket=name, Key=f"docs/{key}")["Body"].read())


def check_record(record):
    what = record.get("document_id")
    typed(what, record, document_id=ID, processing_version=str, source_bucket=str, source_s3_key=str,
          file_size_bytes=Decimal, upload_timestamp=TIME, status=str, current_stage=str, created_at=TIME,
          updated_at=TIME, stage_status=dict, retry_count=Decimal, max_retries=Decimal, ttl=Decimal)
    need("processing version", record["processing_version"] == "v1", record)
    need("source", record["source_bucket"] == name and record["source_s3_key"].startswith("input/"), record)
    size = objects.head_object(Bucket=name, Key=record["source_s3_key"])["ContentLength"]
    need("size", record["file_size_bytes"] == size, record)
    need("expiry", near(record["ttl"], 90), record)
    need("maximum number of retries", record["max_retries"] == 3, record)
    for stage, entry in record["stage_status"].items():
        need("name of a stage", stage in STAGES, stage)
        typed(f"{what} {stage}", entry, status=str)


def check_complete(record):
    what = record["document_id"]
    typed(what, record, completed_at=TIME)
    need("stage", record["current_stage"] == "STAGE_5_COMPLETE" and record["retry_count"] == 0, record)
    need("no error", "last_error" not in record and "error_stage" not in record, record)
    need("stages", sorted(record["stage_status"]) == sorted(STAGES), record)
    for stage, entry in record["stage_status"].items():
        typed(f"{what} {stage}", entry, status=str, started_at=TIME, completed_at=TIME, duration_seconds=Decimal)
        need("status of a stage", entry["status"] == "COMPLETED" and "error" not in entry, entry)
        typed(f"{what} {stage}", entry, **dict.fromkeys(METRICS[stage], Decimal))
        if stage != "loading":
            typed(f"{what} {stage}", entry, output_s3_key=str)
    check_objects(what, record)


def check_objects(document, record):
    output = {stage: entry.get("output_s3_key") for stage, entry in record["stage_status"].items()}
    counted = {metric: entry[metric] for stage, entry in record["stage_status"].items() for metric in METRICS[stage]}
    need("keys", output == {
        "extraction": f"extracted/{document}/metadata.json",
        "chunking": f"chunks/{document}_chunks.json",
        "enrichment": f"enriched/{document}_enriched.json",
        "embedding": f"embeddings/{document}_embeddings.json",
        "loading": None,
    }, output)

    extracted = read(output["extraction"])
    need("pages", len(extracted["pages"]) == counted["pages_extracted"] > 0, extracted)
    for number, page in enumerate(extracted["pages"], 1):
        typed("a page", page, page=int, file=str, breadcrumbs=list, images=list, tables=list, start=int, end=int)
        need("a page's number and file", (page["page"], page["file"]) == (number, f"pages/page_{number}.md"), page)
        body = objects.get_object(Bucket=name, Key=f"docs/extracted/{document}/{page['file']}")["Body"].read()
        need("a page's length", len(body.decode()) == page["end"] - page["start"], page)

    chunked = read(output["chunking"])
    typed("chunks' metadata", chunked["metadata"], document_id=str, total_chunks=int, chunked_at=TIME, chunking_config=dict)
    need("document", chunked["metadata"]["document_id"] == document, chunked["metadata"])
    chunks = chunked["chunks"]
    need("chunks", len(chunks) == chunked["metadata"]["total_chunks"] == counted["chunks_created"] > 0, len(chunks))
    for chunk in chunks:
        typed("a chunk", chunk, id=str, content=str, metadata=dict)
        typed("a chunk's metadata", chunk["metadata"], source=str, page=int, breadcrumbs=list, char_count=int,
              chunk_types=list)
        need("a chunk's length", len(chunk["content"]) == chunk["metadata"]["char_count"], chunk)
        need("optional metadata of a chunk", {"s3_uri", "ai_description"} <= chunk["metadata"].keys(), chunk)
        need("a chunk's id", chunk["id"].startswith(f"{document}#"), chunk["id"])
    ids = [chunk["id"] for chunk in chunks]
    need("chunks have different ids", len(set(ids)) == len(ids), ids)

    enriched = read(output["enrichment"])
    typed("enrichment", enriched, chunks=list, statistics=dict)
    need("the same chunks", [chunk["id"] for chunk in enriched["chunks"]] == ids, enriched)
    for chunk in enriched["chunks"]:
        typed("findings", chunk["findings"], key_phrases=list, entities=list, patterns=list, personal_data=list)
        # The language of a short text cannot be detected.
        if len(chunk["content"]) > 200:
            typed("findings", chunk["findings"], language=dict)

    embedded = read(output["embedding"])
    typed("embedding", embedded["embedding_metadata"], model=str, dimensions=int, generated_at=TIME)
    typed("cost", embedded["cost_tracking"], total_tokens=int, price_per_million_tokens=float, total_cost_usd=float)
    need("the same chunks", [chunk["id"] for chunk in embedded["chunks"]] == ids, embedded)
    need("tokens", embedded["cost_tracking"]["total_tokens"] == counted["tokens_processed"], embedded["cost_tracking"])
    for chunk in embedded["chunks"]:
        need("a vector", len(chunk["embedding"]) == embedded["embedding_metadata"]["dimensions"], chunk["id"])
    need("vectors", counted["vectors_uploaded"] == counted["embeddings_generated"] == len(ids), counted)


def check_quarantined(record):
    what = record["document_id"]
    typed(what, record, last_error=str, error_stage=str, quarantine_artefact=str, quarantine_original=str)
    need("stage", record["current_stage"] == "FAILED" and record["error_stage"] == "extraction", record)
    typed(what, record["stage_status"]["extraction"], error=str, started_at=TIME)
    need("failed artefact", record["quarantine_artefact"].startswith("errors/"), record)
    need("original", record["quarantine_original"].startswith("input/_quarantine/"), record)
    failure = read(record["quarantine_artefact"])
    need("error and attempts of a failure", failure["document_id"] == what and {"error", "attempts"} <= failure.keys(), failure)
    kept = objects.get_object(Bucket=name, Key=f"docs/{record['quarantine_original']}")["Body"].read()
    original = objects.get_object(Bucket=name, Key=record["source_s3_key"])["Body"].read()
    need("the original is kept unchanged", kept == original, record)


def check_trail(document, status):
    trail = list(pages(audit.query, KeyConditionExpression=Key("document_id").eq(document)))
    for entry in trail:
        typed(document, entry, timestamp=STAMP, event_type=str, processing_version=str, metadata=dict, ttl=Decimal)
        need("event", entry["event_type"] in EVENTS, entry)
        need("expiry", near(entry["ttl"], 180), entry)
        if entry["event_type"].startswith("STAGE_"):
            typed(document, entry, stage=str, status=str, worker_id=str)
        if entry["event_type"] == "STAGE_COMPLETED":
            typed(document, entry, duration_seconds=Decimal)
            need("output", entry["stage"] == "loading" or entry["output_s3_key"], entry)
        if entry["event_type"] in ("STAGE_FAILED", "DOCUMENT_FAILED"):
            typed(document, entry, error_type=str, error_message=str)
    events = [entry["event_type"] for entry in trail]
    need("order", [e["timestamp"] for e in trail] == sorted(e["timestamp"] for e in trail), trail)
    last = {"COMPLETED": "DOCUMENT_COMPLETED", "QUARANTINED": "DOCUMENT_FAILED"}[status]
    need("first and last event", events[0] == "DOCUMENT_RECEIVED" and events[-1] == last, events)
    if status == "COMPLETED":
        ended = [entry["stage"] for entry in trail if entry["event_type"] == "STAGE_COMPLETED"]
        need("stages", ended == STAGES, ended)
    return len(trail)


def check(complete, quarantined):
    schema(control, "document_id", "processing_version")
    schema(audit, "document_id", "timestamp")
    schema(metrics, "date", "metric_type")
    index = {i["IndexName"]: i["KeySchema"] for i in control.global_secondary_indexes}.get("status-updated-index")
    need("index", index == [{"AttributeName": "status", "KeyType": "HASH"},
                            {"AttributeName": "updated_at", "KeyType": "RANGE"}], index)
    records = {record["document_id"]: record for record in pages(control.scan)}
    found, entries = {}, 0
    for document, record in records.items():
        check_record(record)
        {"COMPLETED": check_complete, "QUARANTINED": check_quarantined}[record["status"]](record)
        entries += check_trail(document, record["status"])
        found[record["status"]] = found.get(record["status"], 0) + 1
    need("documents", found == {"COMPLETED": complete, "QUARANTINED": quarantined}, found)
    # The index returns the oldest change first.
    by_age = list(pages(control.query, IndexName="status-updated-index",
                        KeyConditionExpression=Key("status").eq("COMPLETED")))
    need("index", len(by_age) == complete and [r["updated_at"] for r in by_age] == sorted(r["updated_at"] for r in by_age),
         by_age)
    print(f"{len(records)} records, {entries} audit log entries")

    daily = {}
    for item in pages(metrics.scan):
        typed("a metric", item, date=re.compile(r"\d{4}-\d\d-\d\d"), metric_type=str, value=Decimal)
        daily[item["metric_type"]] = daily.get(item["metric_type"], 0) + item["value"]
    expected = {"DocumentsProcessed": complete, "DocumentsFailed": quarantined, "loading.completed": complete,
                "extraction.failed": quarantined}
    need("daily metrics", {k: daily.get(k) for k in expected} == expected, daily)
    need("daily metrics", {"ExtractionDuration", "EmbeddingCost", "TokensProcessed"} <= daily.keys(), daily)
    need("tokens", daily["TokensProcessed"] == sum(r["stage_status"]["embedding"]["tokens_processed"]
                                                   for r in records.values() if r["status"] == "COMPLETED"), daily)
    print(f"{len(daily)} daily metrics")


def put_failed(document, key):
    at = "2025-01-31T10:00:00.000000"
    stage = {"status": "COMPLETED", "started_at": at, "completed_at": at, "duration_seconds": Decimal("4.5"),
             "output_s3_key": f"extracted/{document}/metadata.json", "pages_extracted": 2, "images_extracted": 0}
    control.put_item(Item={
        "document_id": document, "processing_version": "v1", "source_bucket": name, "source_s3_key": key,
        "file_size_bytes": 1000, "upload_timestamp": at, "status": "FAILED", "current_stage": "FAILED",
        "created_at": at, "updated_at": at, "completed_at": None, "retry_count": 3, "max_retries": 3,
        "stage_status": {"extraction": stage, "chunking": {"status": "FAILED", "error": "out of memory"},
                         **{stage: {"status": "PENDING"} for stage in STAGES[2:]}},
        "last_error": "out of memory", "error_stage": "chunking", "ttl": 1_999_999_999,
        # The lease of a worker that no longer exists. It has not expired.
        "lease_owner": "ray-worker-7", "lease_expires_at": "2099-01-01T00:00:00.000000Z",
    })


def recover(document):
    control.update_item(
        Key={"document_id": document, "processing_version": "v1"},
        UpdateExpression="SET #status = :pending, retry_count = :zero",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":pending": "PENDING", ":zero": 0},
    )


match command, arguments:
    case "check", [complete, quarantined]:
        check(int(complete), int(quarantined))
    case "put-failed", [document, key]:
        put_failed(document, key)
    case "recover", [document]:
        recover(document)
    case _:
        sys.exit(__doc__)

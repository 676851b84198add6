"""What a foreign S3 client expects, told by boto3: run as `s3_boto3.py ENDPOINT ACCESS_KEY SECRET_KEY BUCKET`."""

import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, access_key, secret_key, bucket = sys.argv[1:]
s3 = boto3.client(
    "s3",
    endpoint_url=endpoint,
    aws_access_key_id=access_key,
    aws_secret_access_key=secret_key,
    region_name="us-east-1",
    config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}, read_timeout=20),
)


def refused(code, call, **arguments):
    try:
        call(Bucket=bucket, **arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] in code, error
        return
    raise AssertionError(f"{call.__name__} {arguments.get('Key')} should be refused with {code}")


def body(key, **arguments):
    return s3.get_object(Bucket=bucket, Key=key, **arguments)["Body"].read()


# Buckets.
assert bucket in [b["Name"] for b in s3.list_buckets()["Buckets"]]
s3.create_bucket(Bucket="another")
s3.head_bucket(Bucket="another")
s3.delete_bucket(Bucket="another")

# Objects: boto3 sends a CRC32 with each by itself, and checks the one that comes back.
awkward = "folder/ä b+c&<d>%41.json"
s3.put_object(Bucket=bucket, Key=awkward, Body=b"hello", ContentType="text/plain", Metadata={"who": "me"})
head = s3.head_object(Bucket=bucket, Key=awkward)
assert (head["ContentLength"], head["ContentType"], head["Metadata"]) == (5, "text/plain", {"who": "me"}), head
assert body(awkward) == b"hello"
assert body(awkward, Range="bytes=1-3") == b"ell"
refused("InvalidRange", s3.get_object, Key=awkward, Range="bytes=9-")
refused("NoSuchKey", s3.get_object, Key="none")

# Listing, three keys a page, with names that XML and URLs mind.
keys = [f"list/{i:02}" for i in range(10)] + ["list/sub/x", "list/sub/y", "list/ü&<>"]
for key in keys:
    s3.put_object(Bucket=bucket, Key=key, Body=b"")
pages = s3.get_paginator("list_objects_v2").paginate(
    Bucket=bucket, Prefix="list/", Delimiter="/", PaginationConfig={"PageSize": 3}
)
found, prefixes, count = [], [], 0
for page in pages:
    count += 1
    found += [o["Key"] for o in page.get("Contents", [])]
    prefixes += [p["Prefix"] for p in page.get("CommonPrefixes", [])]
assert (found, prefixes, count) == (sorted(k for k in keys if "sub" not in k), ["list/sub/"], 4), (found, prefixes, count)
answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
assert len(answer["Deleted"]) == len(keys) and "Errors" not in answer, answer
assert s3.list_objects_v2(Bucket=bucket, Prefix="list/")["KeyCount"] == 0

# Conditional writes.
made = s3.put_object(Bucket=bucket, Key="cas", Body=b"1", IfNoneMatch="*")
refused("PreconditionFailed", s3.put_object, Key="cas", Body=b"2", IfNoneMatch="*")
refused("PreconditionFailed", s3.put_object, Key="cas", Body=b"2", IfMatch='"0"')
s3.put_object(Bucket=bucket, Key="cas", Body=b"2", IfMatch=made["ETag"])
assert body("cas") == b"2"

# Checksums: each algorithm is computed and returned; a wrong one is refused, and the object is not there.
algorithms = {"CRC32": "AAAAAA==", "SHA1": "A" * 27 + "=", "SHA256": "A" * 43 + "="}
for name, wrong in algorithms.items():
    right = s3.put_object(Bucket=bucket, Key=f"sum/{name}", Body=b"body", ChecksumAlgorithm=name)[f"Checksum{name}"]
    read = s3.head_object(Bucket=bucket, Key=f"sum/{name}", ChecksumMode="ENABLED")
    assert read[f"Checksum{name}"] == right, read
    refused("BadDigest", s3.put_object, Key=f"wrong/{name}", Body=b"body", **{f"Checksum{name}": wrong})
refused("BadDigest", s3.put_object, Key="wrong/md5", Body=b"body", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==")
assert s3.list_objects_v2(Bucket=bucket, Prefix="wrong/")["KeyCount"] == 0

# Multipart, with parts above the least size.
mib = 1 << 20
parts = [b"a" * (6 * mib), b"b" * (5 * mib), b"c"]
upload = s3.create_multipart_upload(Bucket=bucket, Key="big", ContentType="application/big")
done = []
for number, part in enumerate(parts, 1):
    answer = s3.upload_part(Bucket=bucket, Key="big", UploadId=upload["UploadId"], PartNumber=number, Body=part)
    done.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": answer["ChecksumCRC32"]})
refused("404 NotFound NoSuchKey", s3.head_object, Key="big")
arguments = {"UploadId": upload["UploadId"]}
refused("InvalidPartOrder", s3.complete_multipart_upload, Key="big", MultipartUpload={"Parts": done[::-1]}, **arguments)
bad = [dict(done[0], ETag='"0"'), *done[1:]]
refused("InvalidPart", s3.complete_multipart_upload, Key="big", MultipartUpload={"Parts": bad}, **arguments)
answer = s3.complete_multipart_upload(Bucket=bucket, Key="big", MultipartUpload={"Parts": done}, **arguments)
assert answer["ETag"].endswith('-3"'), answer
assert body("big") == b"".join(parts)
assert s3.head_object(Bucket=bucket, Key="big")["ContentType"] == "application/big"
upload = s3.create_multipart_upload(Bucket=bucket, Key="dropped")
s3.abort_multipart_upload(Bucket=bucket, Key="dropped", UploadId=upload["UploadId"])
refused("NoSuchUpload", s3.upload_part, Key="dropped", UploadId=upload["UploadId"], PartNumber=1, Body=b"x")

# A wrong secret.
stranger = boto3.client(
    "s3", endpoint_url=endpoint, aws_access_key_id=access_key, aws_secret_access_key="wrong", region_name="us-east-1"
)
refused("SignatureDoesNotMatch", stranger.get_object, Key="cas")
print("all as expected")

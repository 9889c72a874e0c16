//! Tests files: uploading, downloading, ranges, listing in pages and deleting.

use docweir_mock_provider::{Limits, Options};
use serde_json::json;

use crate::client::{rows, start};

#[test]
fn a_file_comes_back_as_it_was() {
    let (_mock, client) = start(Options::default());
    let content: Vec<u8> = (0..600_000u32).map(|n| (n % 251) as u8).collect();
    let file = client.try_upload("batch", &content).unwrap().json();
    let id = file["id"].as_str().unwrap();
    assert!(id.starts_with("file-"));
    assert_eq!((&file["object"], &file["bytes"], &file["purpose"]), (&json!("file"), &json!(600_000), &json!("batch")));
    assert_eq!(file["filename"], "in.jsonl");
    assert_eq!(client.get(&format!("/v1/files/{id}")).json(), file);
    assert!(client.content(&file["id"]).body == content);

    let path = format!("/v1/files/{id}");
    let gone = client.send("DELETE", &path, &[], b"").unwrap().json();
    assert_eq!(gone, json!({"id": id, "object": "file", "deleted": true}));
    assert_eq!(client.get(&path).status, 404);
    assert_eq!(client.get(&format!("{path}/content")).error().0, 404);
}

#[test]
fn a_cut_download_goes_on_only_if_ranges_are_served() {
    let range = [("range", "bytes=10-19")];
    for ranges in [false, true] {
        let (_mock, client) = start(Options { ranges, ..Options::default() });
        let content = rows(3);
        let path = format!("/v1/files/{}/content", client.upload(&content));
        let reply = client.send("GET", &path, &range, b"").unwrap();
        if ranges {
            assert_eq!((reply.status, &reply.body[..]), (206, &content[10..20]));
            assert_eq!(reply.headers["content-range"], format!("bytes 10-19/{}", content.len()));
            let beyond = client.send("GET", &path, &[("range", "bytes=100000-")], b"").unwrap();
            assert_eq!(beyond.status, 416);
        } else {
            assert_eq!((reply.status, reply.body), (200, content));
            assert!(!reply.headers.contains_key("accept-ranges"));
        }
    }
}

#[test]
fn files_are_listed_in_pages() {
    let (_mock, client) = start(Options::default());
    let ids: Vec<_> = (1..=3).map(|n| client.upload(&rows(n))).collect();
    client.try_upload("user_data", b"other").unwrap();
    let page = client.get("/v1/files?purpose=batch&limit=2").json();
    assert_eq!(
        (&page["first_id"], &page["last_id"], &page["has_more"]),
        (&json!(ids[2]), &json!(ids[1]), &json!(true))
    );
    let rest = client.get(&format!("/v1/files?purpose=batch&after={}", ids[1])).json();
    assert_eq!((&rest["data"][0]["id"], &rest["has_more"]), (&json!(ids[0]), &json!(false)));
    assert_eq!(client.get("/v1/files?order=asc").json()["data"][0]["id"], json!(ids[0]));
}

#[test]
fn bad_uploads_are_refused_and_leave_nothing() {
    let limits = Limits { batch_file_bytes: 100, ..Limits::default() };
    let (_mock, client) = start(Options { limits, ..Options::default() });
    assert_eq!(client.try_upload("batch", &[b'a'; 101]).unwrap().error().2, json!("file_too_large"));
    assert_eq!(client.try_upload("batch", b"").unwrap().error().0, 400);
    assert_eq!(client.try_upload("party", b"a").unwrap().error().3, json!("purpose"));
    assert_eq!(client.post("/v1/files", &json!({})).error().0, 400);
    let cut = b"--edge\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nno end";
    let kind = [("content-type", "multipart/form-data; boundary=edge")];
    assert_eq!(client.send("POST", "/v1/files", &kind, cut).unwrap().error().0, 400);
    assert_eq!(client.get("/v1/files").json()["data"], json!([]));
}

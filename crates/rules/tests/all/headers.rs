//! Header edits do what a reader of the lists expects, one after another.

use evenflow_rules::filters::headers::extend;
use evenflow_rules::plan::HeaderEdit;
use evenflow_wire::edit::Edit;
use proptest::prelude::*;

fn compiled(lists: &HeaderEdit) -> Result<Edit, (String, String)> {
    let mut edit = Edit::default();
    extend(&mut edit, lists).map(|()| edit)
}

fn fields(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

fn removing(names: &[&str]) -> HeaderEdit {
    let remove = names.iter().map(|name| (*name).into()).collect();
    HeaderEdit {
        remove,
        ..HeaderEdit::default()
    }
}

fn setting(list: &[(&str, &str)]) -> HeaderEdit {
    HeaderEdit {
        set: fields(list),
        ..HeaderEdit::default()
    }
}

fn adding(list: &[(&str, &str)]) -> HeaderEdit {
    HeaderEdit {
        add: fields(list),
        ..HeaderEdit::default()
    }
}

fn defaulting(list: &[(&str, &str)]) -> HeaderEdit {
    HeaderEdit {
        default: fields(list),
        ..HeaderEdit::default()
    }
}

/// The lines of a message after the edits.
fn edited(edits: &[HeaderEdit], message: &[(&str, &str)]) -> Vec<String> {
    let mut edit = Edit::default();
    for next in edits {
        extend(&mut edit, next).unwrap();
    }
    let mut out = Vec::new();
    for (name, value) in message {
        if !edit.removes(name.as_bytes()) {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }
    edit.append(&mut out, |name| {
        message
            .iter()
            .any(|(present, _)| present.as_bytes().eq_ignore_ascii_case(name))
    });
    let text = String::from_utf8(out).unwrap();
    assert!(text.is_empty() || text.ends_with("\r\n"));
    text.split_terminator("\r\n").map(Into::into).collect()
}

#[test]
fn an_empty_edit_changes_nothing() {
    assert!(compiled(&HeaderEdit::default()).unwrap().is_empty());
    assert_eq!(edited(&[HeaderEdit::default()], &[("A", "1")]), ["A: 1"]);
}

#[test]
fn names_match_in_any_case() {
    let message = [("X-POWERED-BY", "php"), ("server", "x"), ("A", "1")];
    assert_eq!(
        edited(&[removing(&["x-powered-by", "Server"])], &message),
        ["A: 1"]
    );
}

#[test]
fn set_replaces_all_of_the_name_and_add_appends() {
    let message = [("X-A", "1"), ("x-a", "2"), ("B", "3")];
    assert_eq!(
        edited(&[setting(&[("X-A", "new")])], &message),
        ["B: 3", "X-A: new"]
    );
    assert_eq!(
        edited(&[adding(&[("B", "4")])], &message),
        ["X-A: 1", "x-a: 2", "B: 3", "B: 4"]
    );
}

#[test]
fn a_default_is_added_only_where_the_name_is_missing() {
    let edits = [defaulting(&[
        ("X-Frame-Options", "DENY"),
        ("x-frame-options", "second"),
    ])];
    assert_eq!(edited(&edits, &[]), ["X-Frame-Options: DENY"]);
    assert_eq!(
        edited(&edits, &[("X-FRAME-OPTIONS", "ALLOW")]),
        ["X-FRAME-OPTIONS: ALLOW"]
    );
}

#[test]
fn a_default_takes_the_place_of_what_was_removed() {
    let edit = HeaderEdit {
        default: fields(&[("Server", "e")]),
        ..removing(&["server"])
    };
    assert_eq!(edited(&[edit], &[("Server", "x")]), ["Server: e"]);
}

#[test]
fn later_edits_see_what_earlier_ones_did() {
    let message = [("A", "0")];
    assert!(edited(&[adding(&[("A", "1")]), removing(&["a"])], &message).is_empty());
    assert_eq!(
        edited(&[setting(&[("a", "1")]), setting(&[("A", "2")])], &message),
        ["A: 2"]
    );
    assert_eq!(
        edited(&[removing(&["A"]), defaulting(&[("A", "1")])], &message),
        ["A: 1"]
    );
    assert_eq!(
        edited(&[adding(&[("B", "1")]), defaulting(&[("b", "2")])], &[]),
        ["B: 1"]
    );
    assert_eq!(
        edited(&[defaulting(&[("B", "1")]), adding(&[("B", "2")])], &[]),
        ["B: 1", "B: 2"]
    );
}

#[test]
fn long_names_are_removed_too() {
    let long = "x".repeat(200);
    let edit = compiled(&removing(&[long.as_str(), "a"])).unwrap();
    assert!(edit.removes(long.to_uppercase().as_bytes()));
    assert!(!edit.removes("y".repeat(200).as_bytes()));
    assert!(!edit.removes("x".repeat(100).as_bytes()));
    assert!(!edit.removes(b""));
}

#[track_caller]
fn assert_refused(edit: &HeaderEdit, path: &str, part: &str) {
    let (at, message) = compiled(edit).expect_err("should be refused");
    assert_eq!(at, path);
    assert!(message.contains(part), "{message}");
}

#[test]
fn names_that_are_no_tokens_are_refused() {
    for name in ["", "a b", "a:", "a\r\n", "ü", "a\0"] {
        assert_refused(&removing(&["ok", name]), "remove[1]", "name");
        assert_refused(&adding(&[(name, "v")]), "add[0][0]", "name");
    }
}

#[test]
fn values_that_would_break_the_line_are_refused() {
    for value in ["a\r\nb: c", "a\nb", "a\0", "\x7f"] {
        assert_refused(
            &setting(&[("ok", "v"), ("a", value)]),
            "set[1][1]",
            "control",
        );
    }
    assert_refused(&defaulting(&[("a", " v")]), "default[0][1]", "white space");
    assert_eq!(
        edited(&[setting(&[("a", "tab\tand ümlaut"), ("b", "")])], &[]).len(),
        2
    );
}

#[test]
fn framing_and_connection_fields_are_the_balancers_own() {
    for name in [
        "Connection",
        "content-length",
        "Transfer-Encoding",
        "Upgrade",
        "TE",
        "Trailer",
    ] {
        assert_refused(&removing(&[name]), "remove[0]", "own");
        assert_refused(&setting(&[(name, "v")]), "set[0][0]", "own");
    }
    assert_refused(
        &setting(&[("Evenflow-Client", "127.0.0.1")]),
        "set[0][0]",
        "own",
    );
}

#[test]
fn host_can_only_be_set() {
    assert_eq!(
        edited(&[setting(&[("Host", "b")])], &[("host", "a")]),
        ["Host: b"]
    );
    assert_refused(&removing(&["Host"]), "remove[0]", "set only");
    assert_refused(&adding(&[("Host", "b")]), "add[0][0]", "set only");
    assert_refused(&defaulting(&[("Host", "b")]), "default[0][0]", "set only");
}

#[test]
fn setting_a_name_twice_is_refused() {
    assert_refused(&setting(&[("a", "1"), ("A", "2")]), "set[1][0]", "twice");
}

type Message = Vec<(String, String)>;

/// Edits applied to a list, as the plan's documentation reads.
fn reference(mut message: Message, edit: &HeaderEdit) -> Message {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    for name in &edit.remove {
        message.retain(|(present, _)| !same(present, name));
    }
    for (name, value) in &edit.set {
        message.retain(|(present, _)| !same(present, name));
        message.push((name.clone(), value.clone()));
    }
    message.extend(edit.add.iter().cloned());
    for (name, value) in &edit.default {
        if !message.iter().any(|(present, _)| same(present, name)) {
            message.push((name.clone(), value.clone()));
        }
    }
    message
}

fn some_fields(most: usize) -> impl Strategy<Value = Message> {
    prop::collection::vec(("[a-dA-D]", "[0-9]{0,3}"), 0..most)
}

fn some_edit() -> impl Strategy<Value = HeaderEdit> {
    (
        prop::collection::vec("[a-dA-D]", 0..3),
        some_fields(3),
        some_fields(3),
        some_fields(3),
    )
        .prop_map(|(remove, mut set, add, default)| {
            set.sort_by_key(|(name, _)| name.to_lowercase());
            set.dedup_by_key(|(name, _)| name.to_lowercase());
            HeaderEdit {
                remove,
                set,
                add,
                default,
            }
        })
}

proptest! {
    #[test]
    fn any_edits_of_any_message_equal_the_definition(
        message in some_fields(5),
        edits in prop::collection::vec(some_edit(), 1..4),
    ) {
        let borrowed: Vec<(&str, &str)> =
            message.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut actual = edited(&edits, &borrowed);
        let expected = edits.iter().fold(message.clone(), reference);
        let mut expected: Vec<String> =
            expected.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        // The order among different names is not promised.
        let by_name = |line: &String| line[..1].to_lowercase();
        actual.sort_by_key(by_name);
        expected.sort_by_key(by_name);
        prop_assert_eq!(actual, expected);
    }
}

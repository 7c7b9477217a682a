//! Names of fields and what they are known as.

use evenflow_wire::field::is_cross_origin;

#[test]
fn fields_of_cross_origin_answers_are_known_by_their_names_beginning() {
    assert!(is_cross_origin(b"access-control-allow-origin"));
    assert!(is_cross_origin(b"Access-Control-Expose-Headers"));
    assert!(!is_cross_origin(b"vary"));
    assert!(!is_cross_origin(b"access-control"));
}

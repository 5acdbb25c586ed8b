use super::*;

fn exec() -> Exec {
    Exec {
        id: "c".into(),
        exec: 7,
        args: vec!["sh".into(), "-c".into(), "exit 3".into()],
        tty: true,
        width: 80,
        ..Exec::default()
    }
}

#[test]
fn a_frame_is_cut_only_when_all_of_it_is_there() {
    let whole = exec().frame(9, 2);
    let mut buffer = Vec::new();
    for byte in &whole[..whole.len() - 1] {
        buffer.push(*byte);
        assert_eq!(Frame::cut(&mut buffer), Ok(None));
    }
    buffer.push(whole[whole.len() - 1]);
    buffer.extend_from_slice(b"next");
    let frame = Frame::cut(&mut buffer).unwrap().unwrap();
    assert_eq!((frame.kind, frame.id, frame.fds), (Exec::KIND, 9, 2));
    assert_eq!(Exec::parse(&frame.body), Ok(exec()));
    assert_eq!(buffer, b"next");
}

#[test]
fn fields_that_an_older_peer_did_not_send_are_defaults() {
    mod old {
        use super::*;
        wire! { Exec { id: String, exec: u64, } }
    }
    let mut bytes = Vec::new();
    old::Exec {
        id: "c".into(),
        exec: 7,
    }
    .put(&mut bytes);
    let read = Exec::take(&mut &bytes[..]).unwrap();
    assert_eq!(
        read,
        Exec {
            id: "c".into(),
            exec: 7,
            ..Exec::default()
        }
    );
}

#[test]
fn fields_that_a_newer_peer_added_are_ignored_inside_lists_too() {
    mod new {
        use super::*;
        wire! {
            Pair { name: String, value: String, added: u64, }
            MakeSandbox { sysctls: Vec<Pair>, added: String, }
        }
    }
    mod old {
        use super::*;
        wire! { MakeSandbox { sysctls: Vec<Pair>, } }
    }
    let pair = new::Pair {
        name: "a".into(),
        value: "b".into(),
        added: 1,
    };
    let mut bytes = Vec::new();
    new::MakeSandbox {
        sysctls: vec![pair.clone(), pair],
        added: "x".into(),
    }
    .put(&mut bytes);
    let pair = Pair {
        name: "a".into(),
        value: "b".into(),
    };
    let read = old::MakeSandbox::take(&mut &bytes[..]);
    assert_eq!(
        read,
        Ok(old::MakeSandbox {
            sysctls: vec![pair.clone(), pair]
        })
    );
}

#[test]
fn no_bytes_make_a_reader_panic_or_allocate_beyond_them() {
    let whole = exec().frame(1, 0);
    for end in 0..whole.len() {
        let _ = Exec::parse(whole.get(HEADER..end).unwrap_or_default());
    }
    let mut huge = u32::MAX.to_le_bytes().to_vec();
    huge.extend_from_slice(&[0xff; 64]);
    assert_eq!(Frame::cut(&mut huge), Err(Malformed));
    assert_eq!(
        Vec::<String>::take(&mut &[0xff, 0xff, 0xff, 0xff, 0, 0][..]),
        Err(Malformed)
    );
    assert_eq!(Frame::cut(&mut vec![0; 8]), Err(Malformed));
    let mut many = Done {}.frame(1, 0);
    many[10] = 200;
    assert_eq!(Frame::cut(&mut many), Err(Malformed));
}

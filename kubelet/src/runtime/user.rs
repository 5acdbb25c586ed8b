//! Who a container's first process is: pod, image and the image's own user database in, ids out.

use super::container::{ContainerUser, SecurityContext, SupplementalGroupsPolicy};

#[derive(thiserror::Error, Debug, PartialEq, Eq)]
pub enum Error {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    #[error("runAsGroup is set without runAsUser")]
    GroupWithoutUser,
}

/// A line of `/etc/passwd`.
struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

/// A line of `/etc/group`.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn passwd_lines(text: &str) -> impl Iterator<Item = Passwd<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Passwd { name, uid, gid })
    })
}

fn group_lines(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group {
            name,
            gid,
            members: fields.next().unwrap_or(""),
        })
    })
}

/// Resolves the identity. `image_user` is the image's `USER` (`name`, `uid`, each with `:group`); `passwd`
/// and `group` are the texts of the container's files, empty if there are none.
///
/// # Errors
/// If a name is not in the files.
pub fn resolve(
    security: &SecurityContext,
    image_user: &str,
    passwd: &str,
    group: &str,
) -> Result<ContainerUser, Error> {
    if security.run_as_group.is_some() && security.run_as_user.is_none() && image_user.is_empty() {
        return Err(Error::GroupWithoutUser);
    }
    // A pod's user takes the place of the image's user and group.
    let asked = security.run_as_user.map(|uid| uid.to_string());
    let asked = asked.as_deref().unwrap_or(image_user);
    let (user, named_group) = match asked.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (asked, None),
    };
    let (uid, entry) = find_user(user, passwd)?;
    let gid = match (security.run_as_group, named_group) {
        (Some(gid), _) => gid,
        (None, Some(name)) => find_group(name, group)?,
        (None, None) => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let mut groups = vec![gid];
    if let (SupplementalGroupsPolicy::Merge, Some(entry)) =
        (security.supplemental_groups_policy, &entry)
    {
        let member = |line: &Group<'_>| line.members.split(',').any(|name| name == entry.name);
        groups.extend(group_lines(group).filter(member).map(|line| line.gid));
    }
    groups.extend(&security.supplemental_groups);
    let mut supplemental_groups: Vec<u32> = Vec::with_capacity(groups.len());
    for gid in groups {
        if !supplemental_groups.contains(&gid) {
            supplemental_groups.push(gid);
        }
    }
    Ok(ContainerUser {
        uid,
        gid,
        supplemental_groups,
    })
}

/// A number is the id, whether the file knows it or not.
fn find_user<'a>(user: &str, passwd: &'a str) -> Result<(u32, Option<Passwd<'a>>), Error> {
    let user = if user.is_empty() { "0" } else { user };
    if let Ok(uid) = user.parse::<u32>() {
        return Ok((uid, passwd_lines(passwd).find(|entry| entry.uid == uid)));
    }
    let entry = passwd_lines(passwd).find(|entry| entry.name == user);
    let entry = entry.ok_or_else(|| Error::NoUser(user.to_owned()))?;
    Ok((entry.uid, Some(entry)))
}

fn find_group(name: &str, group: &str) -> Result<u32, Error> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    let entry = group_lines(group).find(|entry| entry.name == name);
    entry
        .map(|entry| entry.gid)
        .ok_or_else(|| Error::NoGroup(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/:/bin/false\nbad line\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nssl:x:50:web,other\nlogs:x:51:other,web\n";

    fn resolved(security: &SecurityContext, image: &str) -> Result<(u32, u32, Vec<u32>), Error> {
        let user = resolve(security, image, PASSWD, GROUP)?;
        Ok((user.uid, user.gid, user.supplemental_groups))
    }

    #[test]
    fn images_name_their_user_in_many_ways() {
        let plain = SecurityContext::default();
        assert_eq!(resolved(&plain, ""), Ok((0, 0, vec![0])));
        assert_eq!(resolved(&plain, "web"), Ok((33, 34, vec![34, 50, 51])));
        assert_eq!(resolved(&plain, "33"), Ok((33, 34, vec![34, 50, 51])));
        assert_eq!(resolved(&plain, "1234"), Ok((1234, 0, vec![0])));
        assert_eq!(resolved(&plain, "1234:ssl"), Ok((1234, 50, vec![50])));
        assert_eq!(resolved(&plain, "web:7"), Ok((33, 7, vec![7, 50, 51])));
        assert_eq!(
            resolved(&plain, "nobody"),
            Err(Error::NoUser("nobody".into()))
        );
        assert_eq!(
            resolved(&plain, "0:nogroup"),
            Err(Error::NoGroup("nogroup".into()))
        );
    }

    #[test]
    fn the_pod_overrides_the_image() {
        let pod = SecurityContext {
            run_as_user: Some(33),
            run_as_group: Some(9),
            supplemental_groups: vec![9, 50, 60],
            ..SecurityContext::default()
        };
        assert_eq!(resolved(&pod, "root:ssl"), Ok((33, 9, vec![9, 50, 51, 60])));
        let strict = SecurityContext {
            supplemental_groups_policy: SupplementalGroupsPolicy::Strict,
            ..pod
        };
        assert_eq!(resolved(&strict, "root"), Ok((33, 9, vec![9, 50, 60])));
        let group_only = SecurityContext {
            run_as_group: Some(9),
            ..SecurityContext::default()
        };
        assert_eq!(resolved(&group_only, ""), Err(Error::GroupWithoutUser));
    }
}

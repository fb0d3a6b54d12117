// SPDX-License-Identifier: Apache-2.0
//! Paths of mounts, compared name by name.

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".")
}

/// Whether what is mounted at `mount` is seen at `path`.
pub(super) fn covers(mount: &str, path: &str) -> bool {
    let mut path = names(path);
    names(mount).all(|name| path.next() == Some(name))
}

/// Whether `path` lies below `directory`.
pub(super) fn is_inside(path: &str, directory: &str) -> bool {
    covers(directory, path) && names(path).count() > names(directory).count()
}

/// The variables of `$(NAME)-$(OTHER)`.
pub(super) fn variables(expression: &str) -> impl Iterator<Item = &str> {
    // a doubled dollar stands for itself
    let pieces = expression.match_indices("$(").filter(|(at, _)| !expression[..*at].ends_with('$'));
    pieces.filter_map(|(at, _)| expression[at + 2..].split_once(')')).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_are_compared() {
        let table = [
            ("/data", "/data", true),
            ("/data/", "/data/db", true),
            ("/data", "/database", false),
            ("/data/db", "/data", false),
            ("/", "/data", true),
            ("/a//b/./c", "/a/b/c/d", true),
        ];
        for (mount, path, covered) in table {
            assert_eq!(covers(mount, path), covered, "{mount} {path}");
        }
        assert!(is_inside("/data/x", "/data") && !is_inside("/data", "/data/") && !is_inside("/data2", "/data"));
    }

    #[test]
    fn variables_are_found() {
        let found: Vec<&str> = variables("$(A)/x-$(B_1)/$$(C)/$(open").collect();
        assert_eq!(found, ["A", "B_1"]);
    }
}

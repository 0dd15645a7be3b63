//! The tables of `kafka-consumer-groups`, column by column as Kafka's formats have them.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::{Committed, GroupDescription, GroupMember, Place};

/// What a column without a value shows.
const MISSING: &str = "-";

/// Cells in columns of at least these widths; the last one is as long as it is.
pub fn line(cells: &[&str], widths: &[usize]) -> String {
    let mut line = String::new();
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            line.push(' ');
        }
        line.push_str(&format!("{cell:width$}", width = widths.get(index).copied().unwrap_or(0)));
    }
    line
}

/// `--describe --offsets`: a row for each partition, those of members first.
pub fn offsets(
    group: &GroupDescription,
    committed: &BTreeMap<Place, Committed>,
    ends: &BTreeMap<Place, i64>,
    verbose: bool,
) -> Vec<String> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut members: Vec<&GroupMember> = group.members.iter().filter(|member| !member.assignment.is_empty()).collect();
    // Who has most comes first.
    members.sort_by_key(|member| std::cmp::Reverse(member.assignment.len()));
    let assigned: BTreeSet<&Place> = members.iter().flat_map(|member| &member.assignment).collect();
    let mut row = |place: &Place, who: [&str; 3]| {
        let commit = committed.get(place);
        let end = ends.get(place);
        let number = |number: Option<i64>| number.map_or(MISSING.to_owned(), |number| number.to_string());
        let mut cells = vec![group.id.clone(), place.0.clone(), place.1.to_string()];
        if verbose {
            cells.push(number(commit.and_then(|commit| commit.leader_epoch).map(i64::from)));
        }
        let lag = commit.zip(end).map(|(commit, end)| end - commit.offset);
        cells.extend([number(commit.map(|commit| commit.offset)), number(end.copied()), number(lag)]);
        cells.extend(who.map(str::to_owned));
        rows.push(cells);
    };
    for member in &members {
        member.assignment.iter().for_each(|place| row(place, [&member.id, &member.host, &member.client_id]));
    }
    for place in committed.keys().filter(|place| !assigned.contains(place)) {
        row(place, [MISSING; 3]);
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let mut header = vec!["GROUP", "TOPIC", "PARTITION"];
    if verbose {
        header.push("LEADER-EPOCH");
    }
    header.extend(["CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "CONSUMER-ID", "HOST", "CLIENT-ID"]);
    let mut widths = vec![15; header.len()];
    widths[2] = 10;
    let growing = [0, 1, header.len() - 3, header.len() - 2];
    table(&header, &rows, widths, &growing, header.len() - 1)
}

/// `--describe --members`.
pub fn members(group: &GroupDescription, verbose: bool) -> Vec<String> {
    let with_instance = group.members.iter().any(|member| member.instance_id.is_some());
    let mut header = vec!["GROUP", "CONSUMER-ID"];
    let mut widths = vec![15, 15];
    if with_instance {
        header.push("GROUP-INSTANCE-ID");
        widths.push(17);
    }
    header.extend(["HOST", "CLIENT-ID", "#PARTITIONS"]);
    widths.extend([15, 15, 15]);
    let mut growing: Vec<usize> = (0..header.len() - 1).collect();
    if verbose {
        growing.extend([header.len() + 1, header.len() + 3]);
        header.extend(["CURRENT-EPOCH", "CURRENT-ASSIGNMENT", "TARGET-EPOCH", "TARGET-ASSIGNMENT"]);
        widths.extend([15, 20, 15, 20]);
    }
    let rows: Vec<Vec<String>> = group
        .members
        .iter()
        .map(|member| {
            let mut row = vec![group.id.clone(), member.id.clone()];
            if with_instance {
                row.push(member.instance_id.clone().unwrap_or_default());
            }
            row.extend([member.host.clone(), member.client_id.clone(), member.assignment.len().to_string()]);
            if verbose {
                let epoch = member.target.as_ref().map_or(MISSING.to_owned(), |(epoch, _)| epoch.to_string());
                let target_epoch = group.epochs.map_or(MISSING.to_owned(), |(_, assignment)| assignment.to_string());
                let target = member.target.as_ref().map(|(_, target)| assignment(target));
                row.extend([epoch, assignment(&member.assignment), target_epoch, target.unwrap_or(MISSING.to_owned())]);
            }
            row
        })
        .collect();
    // Kafka pads the last column, too, and behind the narrow table stands a blank.
    let tail = if verbose { "" } else { " " };
    let last = header.len();
    table(&header, &rows, widths, &growing, last).into_iter().map(|line| line + tail).collect()
}

/// `topic:0,1;other:2`
fn assignment(places: &BTreeSet<Place>) -> String {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(topic).or_default().push(partition.to_string());
    }
    match topics.is_empty() {
        true => MISSING.to_owned(),
        false => {
            let shown = topics.iter().map(|(topic, partitions)| format!("{topic}:{}", partitions.join(",")));
            shown.collect::<Vec<_>>().join(";")
        }
    }
}

/// `--describe --state`.
pub fn state(group: &GroupDescription, verbose: bool) -> Vec<String> {
    let at = &group.coordinator;
    let coordinator = format!("{}:{}  ({})", at.host, at.port, at.node_id);
    let strategy = if group.protocol.is_empty() { MISSING.to_owned() } else { group.protocol.clone() };
    let mut header = vec!["GROUP", "COORDINATOR (ID)", "ASSIGNMENT-STRATEGY", "STATE"];
    let mut row = vec![group.id.clone(), coordinator, strategy, group.state.clone()];
    let mut widths = vec![15, 25, 20, 20];
    if verbose {
        header.extend(["GROUP-EPOCH", "TARGET-ASSIGNMENT-EPOCH"]);
        let epoch = |epoch: Option<i32>| epoch.map_or(MISSING.to_owned(), |epoch| epoch.to_string());
        let (group_epoch, assignment_epoch) = group.epochs.unzip();
        row.extend([epoch(group_epoch), epoch(assignment_epoch)]);
        widths.extend([15, 25]);
    }
    header.push("#MEMBERS");
    row.push(group.members.len().to_string());
    widths.push(0);
    let last = header.len() - 1;
    table(&header, &[row], widths, &[0, 1], last)
}

/// Columns in `growing` are as wide as their widest cell; the one at `open` is not padded.
fn table(header: &[&str], rows: &[Vec<String>], mut widths: Vec<usize>, growing: &[usize], open: usize) -> Vec<String> {
    for column in growing {
        let widest = rows.iter().map(|row| row[*column].chars().count()).max().unwrap_or(0);
        widths[*column] = widths[*column].max(widest);
    }
    if let Some(width) = widths.get_mut(open) {
        *width = 0;
    }
    let mut lines = vec![line(header, &widths)];
    lines.extend(rows.iter().map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>(), &widths)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::CoordinatorAddress;

    fn group() -> GroupDescription {
        let member = GroupMember {
            id: "cl1-a1f9525c-077e-4ad4".to_owned(),
            instance_id: None,
            client_id: "cl1".to_owned(),
            host: "/127.0.0.1".to_owned(),
            assignment: BTreeSet::from([("dd".to_owned(), 0), ("dd".to_owned(), 1)]),
            target: None,
        };
        GroupDescription {
            id: "live".to_owned(),
            state: "Stable".to_owned(),
            protocol: "range".to_owned(),
            members: vec![member],
            coordinator: CoordinatorAddress { node_id: 1, host: "127.0.0.1".to_owned(), port: 19392 },
            epochs: None,
        }
    }

    #[test]
    fn offsets_are_shown_with_their_members() {
        let commit = |offset| Committed { offset, leader_epoch: Some(0), metadata: None };
        let committed = BTreeMap::from([(("dd".to_owned(), 0), commit(5)), (("cc".to_owned(), 7), commit(1))]);
        let ends = BTreeMap::from([(("dd".to_owned(), 0), 9), (("dd".to_owned(), 1), 2), (("cc".to_owned(), 7), 1)]);
        assert_eq!(
            offsets(&group(), &committed, &ends, false),
            [
                "GROUP           TOPIC           PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG             CONSUMER-ID            HOST            CLIENT-ID",
                "live            dd              0          5               9               4               cl1-a1f9525c-077e-4ad4 /127.0.0.1      cl1",
                "live            dd              1          -               2               -               cl1-a1f9525c-077e-4ad4 /127.0.0.1      cl1",
                "live            cc              7          1               1               0               -                      -               -",
            ]
        );
        assert!(
            offsets(&group(), &committed, &ends, true)[1].contains("dd              0          0               5 ")
        );
    }

    #[test]
    fn members_and_states_have_kafkas_columns() {
        assert_eq!(
            members(&group(), true),
            [
                "GROUP           CONSUMER-ID            HOST            CLIENT-ID       #PARTITIONS     CURRENT-EPOCH   CURRENT-ASSIGNMENT   TARGET-EPOCH    TARGET-ASSIGNMENT   ",
                "live            cl1-a1f9525c-077e-4ad4 /127.0.0.1      cl1             2               -               dd:0,1               -               -                   ",
            ]
        );
        assert_eq!(
            members(&group(), false)[0],
            "GROUP           CONSUMER-ID            HOST            CLIENT-ID       #PARTITIONS     "
        );
        assert_eq!(
            state(&group(), false),
            [
                "GROUP           COORDINATOR (ID)          ASSIGNMENT-STRATEGY  STATE                #MEMBERS",
                "live            127.0.0.1:19392  (1)      range                Stable               1",
            ]
        );
    }
}

//! Where a group's offsets shall go: what `capek group reset-offsets` and `kafka-consumer-groups --reset-offsets` plan before
//! anything is changed.

use std::collections::{BTreeMap, BTreeSet};

use capek_wire::ErrorCode;

use crate::client::{Client, ClientError, OffsetQuery, Place};

/// What the new offsets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Earliest,
    Latest,
    /// What is committed; the end where nothing is.
    Current,
    Offset(i64),
    /// So many further on, or back.
    Shift(i64),
    /// The first record at or after this time, in milliseconds; the end where none is that young.
    Time(i64),
    /// Each partition's own, from a file or from another group.
    These(BTreeMap<Place, i64>),
}

/// One partition of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub place: Place,
    pub old: Option<i64>,
    pub new: i64,
    pub end: i64,
    /// Why the offset is not the one that was asked for.
    pub note: Option<String>,
}

impl Planned {
    /// Records that are left to read from the new offset on.
    pub fn lag(&self) -> i64 {
        self.end - self.new
    }
}

/// Which partitions of a topic: all, or some.
pub type Chosen = BTreeMap<String, Option<BTreeSet<i32>>>;

/// `topic` or `topic:0,2`.
pub fn parse_chosen(texts: &[&str]) -> Result<Chosen, String> {
    let mut chosen = Chosen::new();
    for text in texts {
        let Some((topic, list)) = text.split_once(':') else {
            chosen.insert((*text).to_owned(), None);
            continue;
        };
        let partition = |number: &str| {
            number
                .trim()
                .parse::<i32>()
                .map_err(|_| format!("Invalid partition '{number}' specified in topic arg '{text}''"))
        };
        let partitions: BTreeSet<i32> = list.split(',').map(partition).collect::<Result<_, _>>()?;
        if topic.is_empty() {
            return Err(format!("Invalid topic arg '{text}', expected topic name and partitions"));
        }
        if let Some(known) = chosen.entry(topic.to_owned()).or_insert_with(|| Some(BTreeSet::new())) {
            known.extend(partitions);
        }
    }
    Ok(chosen)
}

/// The partitions that are chosen. A topic that is not there is an error, and so is a partition.
pub async fn places_of(client: &Client, chosen: &Chosen) -> Result<Vec<Place>, ClientError> {
    let names: Vec<String> = chosen.keys().cloned().collect();
    let metadata = client.refresh(Some(&names)).await?;
    let mut places = Vec::new();
    let mut missing = Vec::new();
    for (topic, partitions) in chosen {
        let found = metadata.topics.get(topic).filter(|found| found.error == ErrorCode::None);
        let Some(found) = found else {
            let code = ErrorCode::UnknownTopicOrPartition;
            return Err(ClientError::refused("the cluster", &format!("finding topic '{topic}'"), code, None));
        };
        let wanted = partitions.clone().unwrap_or_else(|| found.partitions.keys().copied().collect());
        for partition in wanted {
            match found.partitions.contains_key(&partition) {
                true => places.push((topic.clone(), partition)),
                false => missing.push(format!("{topic}-{partition}")),
            }
        }
    }
    match missing.is_empty() {
        true => Ok(places),
        false => Err(ClientError::NotFound(format!("The partitions \"{}\" do not exist", missing.join(", ")))),
    }
}

/// Plans the new offsets of some partitions; changes nothing.
pub async fn plan(
    client: &Client,
    places: &[Place],
    committed: &BTreeMap<Place, i64>,
    target: &Target,
) -> Result<Vec<Planned>, ClientError> {
    let query = |place: &Place, timestamp| OffsetQuery { topic: place.0.clone(), partition: place.1, timestamp };
    let mut queries: Vec<OffsetQuery> = places.iter().flat_map(|place| [query(place, -2), query(place, -1)]).collect();
    if let Target::Time(timestamp) = target {
        queries.extend(places.iter().map(|place| query(place, *timestamp)));
    }
    let found = client.list_offsets(&queries).await?;
    let offset = |place: &Place, timestamp| found.get(&query(place, timestamp)).map_or(-1, |listed| listed.offset);
    let mut planned = Vec::new();
    for place in places {
        let bounds = (offset(place, -2), offset(place, -1));
        let of_time = if let Target::Time(timestamp) = target { offset(place, *timestamp) } else { -1 };
        let old = committed.get(place).copied();
        let (new, note) = aim(place, old, bounds, of_time, target).map_err(ClientError::Invalid)?;
        planned.push(Planned { place: place.clone(), old, new, end: bounds.1, note });
    }
    Ok(planned)
}

/// The new offset of one partition, inside its bounds.
fn aim(
    place: &Place,
    old: Option<i64>,
    (start, end): (i64, i64),
    of_time: i64,
    target: &Target,
) -> Result<(i64, Option<String>), String> {
    let (topic, partition) = place;
    let asked = match target {
        Target::Earliest => start,
        Target::Latest => end,
        Target::Current => old.unwrap_or(end),
        Target::Offset(offset) => *offset,
        Target::Shift(by) => match old {
            Some(old) => old.saturating_add(*by),
            None => {
                let why = "since there is no current committed offset";
                return Err(format!("Cannot shift offset for partition {topic}-{partition} {why}"));
            }
        },
        Target::Time(_) if of_time < 0 => {
            let why = "is empty. Falling back to latest known offset.";
            return Ok((end, Some(format!("Warn: Partition {partition} from topic {topic} {why}"))));
        }
        Target::Time(_) => of_time,
        Target::These(offsets) => offsets.get(place).copied().unwrap_or(end),
    };
    // What is committed stays where it is, even when retention has passed it.
    let new = if *target == Target::Current { asked } else { asked.clamp(start, end.max(start)) };
    let (side, bound) = if asked > end { ("higher than latest", end) } else { ("lower than earliest", start) };
    let note = (new != asked).then(|| {
        format!("New offset ({asked}) is {side} offset for topic partition {topic}-{partition}. Value will be set to {bound}.")
    });
    Ok((new, note))
}

/// Lines of `topic,partition,offset`, or of `group,topic,partition,offset`: those of this group.
pub fn parse_csv(text: &str, group: &str, has_groups: bool) -> Result<BTreeMap<Place, i64>, String> {
    let mut offsets = BTreeMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = || {
            format!(
                "line {} is not {}topic,partition,offset: {line}",
                index + 1,
                if has_groups { "group," } else { "" }
            )
        };
        let fields: Vec<&str> = line.split(',').map(|field| field.trim().trim_matches('"')).collect();
        let (of_group, fields) = match (has_groups, fields.as_slice()) {
            (true, [of_group, rest @ ..]) => (*of_group, rest),
            (_, all) => (group, all),
        };
        let [topic, partition, offset] = fields else { return Err(wrong()) };
        let (Ok(partition), Ok(offset)) = (partition.parse::<i32>(), offset.parse::<i64>()) else {
            return Err(wrong());
        };
        if of_group == group {
            offsets.insert(((*topic).to_owned(), partition), offset);
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aimed(old: Option<i64>, of_time: i64, target: Target) -> i64 {
        aim(&("t".to_owned(), 0), old, (10, 20), of_time, &target).unwrap().0
    }

    #[test]
    fn targets_stay_inside_the_log() {
        assert_eq!(aimed(Some(15), -1, Target::Earliest), 10);
        assert_eq!(aimed(Some(15), -1, Target::Latest), 20);
        assert_eq!(aimed(Some(15), -1, Target::Current), 15);
        assert_eq!(aimed(None, -1, Target::Current), 20);
        assert_eq!(aimed(Some(15), -1, Target::Offset(99)), 20);
        assert_eq!(aimed(Some(15), -1, Target::Shift(-2)), 13);
        assert_eq!(aimed(Some(15), -1, Target::Shift(-200)), 10);
        assert_eq!(aimed(Some(15), -1, Target::Shift(i64::MAX)), 20);
        assert_eq!(aimed(Some(15), 12, Target::Time(5)), 12);
        assert_eq!(aimed(Some(15), -1, Target::Time(5)), 20);
        assert_eq!(aimed(None, -1, Target::These(BTreeMap::from([(("t".to_owned(), 0), 14)]))), 14);
    }

    #[test]
    fn what_cannot_be_done_as_asked_is_told() {
        let place = ("t".to_owned(), 0);
        let note = |target| aim(&place, Some(15), (10, 20), -1, &target).unwrap().1.unwrap();
        assert!(note(Target::Offset(99)).starts_with("New offset (99) is higher than latest offset"));
        assert!(note(Target::Offset(3)).starts_with("New offset (3) is lower than earliest offset"));
        assert!(note(Target::Time(1)).contains("Falling back to latest known offset"));
        assert!(
            aim(&place, None, (10, 20), -1, &Target::Shift(1)).unwrap_err().contains("no current committed offset")
        );
    }

    #[test]
    fn topics_are_chosen_with_or_without_partitions() {
        let chosen = parse_chosen(&["a", "b:0,2", "b:1"]).unwrap();
        assert_eq!(chosen["a"], None);
        assert_eq!(chosen["b"], Some(BTreeSet::from([0, 1, 2])));
        assert!(parse_chosen(&["b:x"]).is_err());
        assert!(parse_chosen(&[":1"]).is_err());
    }

    #[test]
    fn files_name_offsets_with_or_without_groups() {
        let expected = BTreeMap::from([(("cc".to_owned(), 0), 7)]);
        assert_eq!(parse_csv("\"cc\",0,7\n", "g1", false).unwrap(), expected);
        assert_eq!(parse_csv("g1,cc,0,7\ng9,cc,0,2\n", "g1", true).unwrap(), expected);
        assert!(parse_csv("cc,0\n", "g1", false).unwrap_err().starts_with("line 1"));
        assert!(parse_csv("cc,0,x\n", "g1", false).is_err());
    }
}

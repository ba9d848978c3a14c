"""What the rules of OVTrack's annotation files make of a set, said with plain dicts and loop after loop: slow, and easy to read."""

import copy


def reference(base: dict, made: dict[str, list[dict]], variants: int, rules: dict) -> dict:
    """base: a COCO file's content. made: name of a variant -> [{"id": of the original annotation, "bbox", "area", "segmentation"}];
    a name that is not in it is an unchanged copy, None in its place one that could not be made.
    """
    of_image: dict[int, list[dict]] = {}
    for a in base["annotations"]:
        of_image.setdefault(a["image_id"], []).append(a)
    out: dict[str, list] = {"images": [], "annotations": [], "videos": [], "categories": copy.deepcopy(base["categories"])}
    image_id, annotation_id = (max(x["id"] for x in base[k]) for k in ("images", "annotations"))
    video = track = 0

    def gone(image: dict) -> bool:
        return all(made.get(name, []) is None for name in names(image))

    def names(image: dict) -> list[str]:
        return [f"{image['file_name'].split('/')[-1].rsplit('.', 1)[0]}_v{j}.jpg" for j in range(variants)]

    for image in base["images"]:
        single = [a for a in of_image.get(image["id"], []) if not a.get("iscrowd", 0)]
        if not gone(image):
            out["videos"].append({"id": video, "width": image["width"], "height": image["height"]})
            out["images"].append({**copy.deepcopy(image), "video_id": video, "frame_id": 0})
        for a in single:
            if not gone(image):
                out["annotations"].append({**copy.deepcopy(a), "instance_id": track, "track_id": track, "video_id": video})
            track += 1
        video += 1
    for image in base["images"]:
        image_id += 1
        if not gone(image):
            out["videos"].append({"id": video, "width": image["width"], "height": image["height"]})
            out["images"].append({**copy.deepcopy(image), "id": image_id, "video_id": video, "frame_id": 0})
        first = []
        for a in of_image.get(image["id"], []):
            if a.get("iscrowd", 0) or not a["area"] > rules["min_area"]:
                continue
            annotation_id += 1
            ids = {
                "id": annotation_id,
                "ori_ann_id": a["id"],
                "image_id": image_id,
                "instance_id": track,
                "track_id": track,
                "video_id": video,
            }
            first.append({**copy.deepcopy(a), **ids})
            track += 1
        if not gone(image):
            out["annotations"] += copy.deepcopy(first)
        frame = 0
        for name in names(image):
            image_id += 1
            objects = made.get(name, "unchanged")
            if objects is not None:
                frame += 1
                own = {k: copy.deepcopy(v) for k, v in image.items() if k not in ("coco_url", "flickr_url")}  # those are of the original
                out["images"].append({**own, "id": image_id, "file_name": name, "video_id": video, "frame_id": frame})
            for a in first:
                annotation_id += 1
                new = {**copy.deepcopy(a), "id": annotation_id, "image_id": image_id}
                if objects is None:
                    continue
                if objects == "unchanged":
                    out["annotations"].append(new)
                    continue
                found = [o for o in objects if o["id"] == a["ori_ann_id"]]
                if not found:
                    continue
                box, area = found[0]["bbox"], found[0]["area"]
                if box[2] < rules["min_side"] or box[3] < rules["min_side"] or area < rules["min_variant_area"]:
                    continue
                del new["segmentation"]
                new |= {"bbox": box, "area": area}
                if rules.get("segmentations"):
                    new["segmentation"] = found[0]["segmentation"]
                out["annotations"].append(new)
        video += 1
    return out

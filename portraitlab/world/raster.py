"""A z-buffer rasteriser for textured triangles, compiled by numba."""

from __future__ import annotations

import numpy as np

from portraitlab.world.compiled import compiled
from portraitlab.world.mesh import Array


@compiled(fastmath=True)
def draw_triangles(
    points: Array,
    normals: Array,
    uv: Array,
    triangles: np.ndarray,
    texture: Array,
    light: Array,
    label: int,
    two_sided: bool,
    colours: Array,
    depth: Array,
    labels: np.ndarray,
) -> None:
    """Draw a mesh into colours [H, W, 3], depth [H, W] and labels [H, W], in place.

    points [V, 3]: pixel x, y (down) and depth (nearer is greater). normals [V, 3]: unit length, y
    up. uv [V, 2]: texel row and column. texture [h, w, 4]: RGB and coverage; texels under 0.5
    coverage are holes. light [13]: direction (3), its RGB (3), ambient RGB (3), gloss, and the
    direction of the brightest ambient light (3).
    """
    height, width = depth.shape
    rows, columns = texture.shape[0], texture.shape[1]
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = points[a, 0], points[a, 1]
        bx, by = points[b, 0], points[b, 1]
        cx, cy = points[c, 0], points[c, 1]
        # Skip degenerate triangles and back faces; bound the others by whole pixels.
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or (area > 0.0 and not two_sided):
            continue
        x_low = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        x_high = min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        y_low = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        y_high = min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        inverse = 1.0 / area
        for py in range(y_low, y_high + 1):
            fy = py + 0.5
            for px in range(x_low, x_high + 1):
                fx = px + 0.5
                wa = ((bx - fx) * (cy - fy) - (by - fy) * (cx - fx)) * inverse
                wb = ((cx - fx) * (ay - fy) - (cy - fy) * (ax - fx)) * inverse
                wc = 1.0 - wa - wb
                if wa < 0.0 or wb < 0.0 or wc < 0.0:
                    continue
                z = wa * points[a, 2] + wb * points[b, 2] + wc * points[c, 2]
                if z <= depth[py, px]:
                    continue
                # Interpolate the texture's coverage between four texels.
                row = wa * uv[a, 0] + wb * uv[b, 0] + wc * uv[c, 0]
                column = wa * uv[a, 1] + wb * uv[b, 1] + wc * uv[c, 1]
                r0 = min(max(int(row), 0), rows - 1)
                c0 = min(max(int(column), 0), columns - 1)
                r1 = min(r0 + 1, rows - 1)
                c1 = min(c0 + 1, columns - 1)
                fr, fc = row - r0, column - c0
                w00, w01, w10, w11 = (1 - fr) * (1 - fc), (1 - fr) * fc, fr * (1 - fc), fr * fc
                cover = w00 * texture[r0, c0, 3] + w01 * texture[r0, c1, 3]
                cover += w10 * texture[r1, c0, 3] + w11 * texture[r1, c1, 3]
                if cover < 0.5:
                    continue
                # Shade by the interpolated normal.
                nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
                ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
                nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
                scale = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-9)
                if two_sided and nz < 0.0:
                    scale = -scale
                nx, ny, nz = nx * scale, ny * scale, nz * scale
                diffuse = max(0.0, nx * light[0] + ny * light[1] + nz * light[2])
                # Half-way vector between the light and the viewer at +z.
                hx, hy, hz = light[0], light[1], light[2] + 1.0
                half = max(
                    0.0, (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz)
                )
                gloss = light[9] * half**24
                shade = 0.75 + 0.25 * (nx * light[10] + ny * light[11] + nz * light[12])
                for k in range(3):
                    albedo = w00 * texture[r0, c0, k] + w01 * texture[r0, c1, k]
                    albedo += w10 * texture[r1, c0, k] + w11 * texture[r1, c1, k]
                    lit = light[6 + k] * shade + light[3 + k] * diffuse
                    colours[py, px, k] = albedo * lit + gloss * light[3 + k]
                depth[py, px] = z
                labels[py, px] = label


@compiled(fastmath=True)
def grid_normals(vertices: Array, rows: int, columns: int) -> Array:
    """Compute unit normals [rows * columns, 3] of a grid of vertices by central differences."""
    normals = np.empty_like(vertices)
    for r in range(rows):
        up, down = max(r - 1, 0) * columns, min(r + 1, rows - 1) * columns
        for c in range(columns):
            left, right = max(c - 1, 0), min(c + 1, columns - 1)
            i, j, k, m = up + c, down + c, r * columns + left, r * columns + right
            ax, ay = vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1]
            bx, by = vertices[m, 0] - vertices[k, 0], vertices[m, 1] - vertices[k, 1]
            az, bz = vertices[j, 2] - vertices[i, 2], vertices[m, 2] - vertices[k, 2]
            nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
            scale = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
            n = r * columns + c
            normals[n, 0], normals[n, 1], normals[n, 2] = nx * scale, ny * scale, nz * scale
    return normals


def grid_triangles(rows: int, columns: int) -> np.ndarray:
    """Return triangles [2 (rows-1)(columns-1), 3] of a grid whose front faces the viewer."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    first, second = np.stack([a, c, b], -1), np.stack([b, c, d], -1)
    return np.concatenate([first.reshape(-1, 3), second.reshape(-1, 3)]).astype(np.int32)

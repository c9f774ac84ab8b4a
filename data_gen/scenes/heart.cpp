// SPDX-License-Identifier: LGPL-2.1-or-later
#include "data_gen/scenes/heart.hpp"

#include "data_gen/scenes/canvas.hpp"
#include "data_gen/scenes/random.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/math/base/statistics.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

namespace mri {

namespace {

constexpr double pi = std::numbers::pi;

Point direction(double angle) {
    return {static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))};
}

float f32(double value) {
    return static_cast<float>(value);
}

/// From 0 at `from` to 1 at `to` with zero slope at both ends.
double ease(double from, double to, double at) {
    const double u = std::clamp((at - from) / (to - from), 0.0, 1.0);
    return u * u * (3.0 - 2.0 * u);
}

/// Random outline: amplitudes fall with the order.
void roughen(Blob& blob, Random& random, int lowest, int highest, double amplitude) {
    for (int k = lowest; k <= highest; ++k) {
        const double size = amplitude / (1.0 + 0.5 * (k - lowest)), angle = random.uniform(0.0, 2.0 * pi);
        const double length = size * random.uniform(0.4, 1.0);
        blob.set(k, f32(length * std::cos(angle)), f32(length * std::sin(angle)));
    }
}

struct Vessel {
    Capsule shape;
    float value;
};

struct Papillary {
    double angle;     ///< from the direction of the right ventricle
    double depth;     ///< distance from the centre in cavity radii at end diastole
    float radius;     ///< mm
    float elongation; ///< towards the centre
};

/// A vessel that winds for `run` mm from `from`, getting thinner.
void add_vessel(std::vector<Vessel>& vessels, Random& random, Point from, double angle, double run,
                double half_width, float value) {
    const int pieces = run > 5.0 ? 3 : 1;
    for (int i = 0; i < pieces; ++i) {
        const Point to = from + f32(run / pieces) * direction(angle);
        vessels.push_back({{from, to, f32(half_width)}, value});
        from = to;
        angle += random.uniform(-0.5, 0.5);
        half_width *= 0.8;
    }
}

/// A surface coil: sensitivity falls with the distance as 1 / (1 + (d / reach)^2).
struct Coil {
    Point at;
    float inverse_square_reach, gain;
};

} // namespace

// All lengths are mm. Scene axes before the picture is turned: the left ventricle's centre at end diastole is
// the origin, x points to the free (lateral) wall, y to the diaphragm.
struct HeartScene::Model {
    HeartOptions options;
    double fov = 300.0;
    Point view_centre, view_turn;
    bool mirror = false;
    float gain = 1.0f;
    Texture fine, coarse;

    // Timing, in fractions of a beat or breath.
    double systole = 0.35, beat_offset = 0.0, breath_offset = 0.0, breath_depth = 8.0;

    // Left ventricle.
    Blob cavity, outer; ///< at end diastole; outer's radius follows from the wall's area
    double cavity_area = 0.0, wall_area = 0.0;
    double ejected = 0.5;    ///< fraction of the cavity's area
    double thickening = 0.1; ///< growth of the wall's area from longitudinal shortening
    double twist = 0.15;     ///< rad
    double bounce = 3.0;     ///< mm towards the right ventricle in systole
    float roughness = 0.02f; ///< trabeculae, relative to the radius, at end systole
    std::array<float, 6> trabeculae{};
    std::vector<Papillary> papillaries;
    double right_angle = pi; ///< where the right ventricle lies

    // Right ventricle.
    bool has_right = true;
    Blob right;
    double right_ejected = 0.4;
    float right_wall = 3.0f, fat_layer = 4.0f;
    std::vector<Point> right_trabeculae; ///< relative to its centre, in radii
    std::vector<Blob> great_vessels;     ///< near the base

    // Torso.
    Blob body, liver, stomach, gas, spleen, aorta, vertebra, canal;
    bool has_spine = true, has_liver = true, has_stomach = true, has_gas = true, has_spleen = false;
    float fat_thickness = 12.0f, fat_variation = 0.5f, muscle_thickness = 12.0f;
    Point fat_side;
    float bend = 4.0f, stalk = 1.5f; ///< mm; mediastinum's half width in vertebra radii
    std::array<float, 8> pad_shape{};
    std::vector<Vessel> lung_vessels, liver_vessels, ribs;
    std::vector<Coil> coils;

    // Signals.
    float blood = 1.0f, myocardium = 0.33f, fat = 0.8f, muscle = 0.18f, lung = 0.03f, liver_signal = 0.35f,
          stomach_signal = 0.4f, marrow = 0.35f, spleen_signal = 0.45f, pericardium = 0.1f;
    float blood_mottle = 0.06f, muscle_mottle = 0.1f, softness = 1.2f;

    explicit Model(const HeartOptions& settings) : Model(settings, Random(settings.seed)) {}

    double beat(double time) const {
        const double phase = time * options.heart_rate / 60.0 + beat_offset;
        return phase - std::floor(phase);
    }

    /// 0 at end diastole, 1 at end systole: ejection, isovolumic relaxation, rapid filling, diastasis, atrial
    /// kick.
    double contraction(double phase) const {
        const auto diastole = [&](double fraction) { return systole + (1.0 - systole) * fraction; };
        if (phase < diastole(0.05))
            return ease(0.04, systole, phase);
        if (phase < diastole(0.78))
            return 1.0 - 0.76 * ease(diastole(0.05), diastole(0.40), phase) -
                   0.06 * ease(diastole(0.40), diastole(0.78), phase);
        return 0.18 * (1.0 - ease(diastole(0.78), diastole(0.97), phase));
    }

    /// mm of the diaphragm's way to the feet, 0 at end expiration, where breathing lingers (Lujan et al.,
    /// Med. Phys. 26, 1999: cos^4).
    double breath(double time) const {
        const double c = std::cos(pi * (time * options.breathing_rate / 60.0 + breath_offset));
        return breath_depth * (1.0 - c * c * c * c);
    }

    double left_area(double s) const { return cavity_area * (1.0 - ejected * s); }

    /// Thickness of skin and fat in a direction from the body's centre.
    float fat_at(Point along) const {
        return 1.6f + fat_thickness * (1.0f + fat_variation * (along.x * fat_side.x + along.y * fat_side.y));
    }

    /// Signed distance to the inside of the chest wall, negative inside, for the body with this outline.
    float chest_distance(const Blob& skin, Point p) const {
        const Point q = p - skin.centre;
        return skin.distance(p) + fat_at(1.0f / std::max(length(q), 1.0f) * q) + muscle_thickness;
    }

    /// Everything that depends on time.
    struct Moment {
        double phase, s, breath;
        Point heart; ///< the left ventricle's centre
        Point turn;  ///< cosine and sine of the twist
        Blob cavity, outer, right, right_outer;
    };
    Moment at(double time) const;

    Model(const HeartOptions& settings, Random random);
    void make_heart(Random& random);
    void make_torso(Random& random);
    double make_body(Random& random, double chest);
    void make_abdomen(Random& random);
    void make_back(Random& random, double chest);
    void make_lungs(Random& random);
    void make_ribs(Random& random);
    void make_signals(Random& random);
    void make_coils(Random& random, double chest, double size);
    Canvas canvas(int width, int height, double fov_x, double fov_y, float* pixels) const {
        return Canvas(width, height, fov_x, fov_y, view_centre, view_turn, mirror, pixels);
    }
    /// Nothing in a body is a perfect circle: outside of the left ventricle, whose shape stays exact, the
    /// plane is bent.
    Point bent(Point p) const {
        const float away = length(p) / outer.radius;
        const float strength = bend * std::clamp(1.25f * (away - 1.35f), 0.0f, 1.0f);
        if (strength <= 0.0f)
            return p;
        return p + strength * Point{coarse(0.55f * p), coarse(0.55f * p + Point{57.0f, 31.0f})};
    }
    void paint_torso(Canvas& canvas, const Moment& now) const;
    void paint_heart(Canvas& canvas, const Moment& now) const;
    void paint(double time, int width, int height, double fov_x, double fov_y, float* pixels) const;
};

HeartScene::Model::Moment HeartScene::Model::at(double time) const {
    Moment now;
    now.phase = beat(time);
    now.s = contraction(now.phase);
    now.breath = breath(time);
    const double s = now.s;
    const Point to_right = direction(right_angle);
    now.heart = f32(bounce * s) * to_right + Point{f32(-0.15 * now.breath), f32(0.6 * now.breath)};
    now.turn = direction(twist * s);

    now.cavity = cavity.turned(now.turn.x, now.turn.y);
    // Trabeculae merge into folds as the cavity shrinks.
    for (std::size_t i = 0; i < trabeculae.size() / 2; ++i)
        now.cavity.set(static_cast<int>(6 + i), trabeculae[2 * i] * (0.4f + 0.6f * f32(s)),
                       trabeculae[2 * i + 1] * (0.4f + 0.6f * f32(s)));
    now.cavity.centre = now.heart;
    const double area = left_area(s);
    now.cavity.radius = now.cavity.radius_for(f32(area));
    now.outer = outer.turned(now.turn.x, now.turn.y);
    now.outer.centre = now.heart;
    now.outer.radius = now.outer.radius_for(f32(area + wall_area * (1.0 + thickening * s)));

    now.right = right;
    const double shrink = 1.0 - right_ejected * s;
    now.right.centre = now.heart + f32(0.94 + 0.06 * shrink) * right.centre;
    now.right.radius = right.radius * f32(std::sqrt(shrink));
    now.right_outer = now.right.grown(right_wall * f32(1.0 + 0.3 * s));
    return now;
}

void HeartScene::Model::make_heart(Random& random) {
    // Slice level: 0 at the valves, 1 at the apex.
    const double level = random.uniform(0.0, 0.85);
    const double taper = std::sqrt(1.0 - 0.75 * level * level);

    const double radius = std::clamp(random.normal(24.0, 2.8), 17.0, 34.0) * taper;
    const double wall = std::clamp(random.normal(8.5, 1.6), 5.0, 15.0) * (0.8 + 0.2 * taper);
    cavity.radius = f32(radius);
    roughen(cavity, random, 2, 4, 0.05);
    cavity_area = cavity.area();
    outer = cavity;
    outer.radius = f32(radius + wall);
    for (int k = 1; k <= 4; ++k) // the outside is rounder, and the wall not everywhere as thick
        outer.set(k, 0.6f * outer.a[static_cast<std::size_t>(k)] + f32(random.uniform(-0.02, 0.02)),
                  0.6f * outer.b[static_cast<std::size_t>(k)] + f32(random.uniform(-0.02, 0.02)));
    wall_area = outer.area() - cavity_area;
    // One or two of ten patients have a weak heart.
    ejected = random.chance(0.15) ? random.uniform(0.1, 0.3) : random.uniform(0.35, 0.65);
    thickening = random.uniform(0.05, 0.2);
    twist = random.uniform(0.03, 0.2) * (random.chance(0.5) ? 1.0 : -1.0);
    bounce = random.uniform(0.5, 4.0);
    roughness = f32(random.uniform(0.005, 0.02) + 0.03 * level);
    for (float& amplitude : trabeculae)
        amplitude = roughness * f32(random.uniform(-1.0, 1.0));
    right_angle = pi + random.uniform(-0.5, 0.5);

    if (level > 0.12 && level < 0.72) {
        const int count = random.chance(0.2) ? 3 : 2;
        for (int i = 0; i < count; ++i) {
            Papillary p;
            p.angle = (i == 0 ? 1.9 : i == 1 ? -1.9 : 2.6) + random.uniform(-0.35, 0.35);
            p.depth = random.uniform(0.62, 0.82);
            p.radius = f32(random.uniform(2.6, 5.0) * (0.6 + 0.4 * taper));
            p.elongation = f32(random.uniform(0.0, 0.3));
            papillaries.push_back(p);
        }
    }

    has_right = level < 0.8;
    const double reach = outer.radius;
    const double right_radius = reach * random.uniform(0.85, 1.15) * (1.0 - 0.45 * level);
    right.radius = f32(right_radius);
    right.centre = f32(reach * random.uniform(0.72, 0.95)) * direction(right_angle);
    // Long across the direction to the left ventricle.
    const double stretch = random.uniform(0.05, 0.22);
    right.set(2, f32(-stretch * std::cos(2.0 * right_angle)), f32(-stretch * std::sin(2.0 * right_angle)));
    const double corner = random.uniform(0.02, 0.1), corner_angle = random.uniform(0.0, 2.0 * pi);
    right.set(3, f32(corner * std::cos(corner_angle)), f32(corner * std::sin(corner_angle)));
    right_ejected = std::min(0.6, ejected * random.uniform(0.7, 1.0));
    right_wall = f32(random.uniform(2.0, 4.5));
    fat_layer = f32(std::max(0.8, random.normal(4.0, 2.5)));
    for (int i = random.integer(2, 8); i > 0; --i) {
        const double angle = right_angle + random.uniform(-1.4, 1.4), depth = random.uniform(0.75, 1.02);
        right_trabeculae.push_back(f32(depth) * direction(angle));
    }
    if (level < 0.25) // outflow tracts, atria and the aortic root come into the slice near the valves
        for (int i = random.integer(1, 3); i > 0; --i) {
            Blob vessel;
            vessel.radius = f32(random.uniform(8.0, 17.0));
            vessel.centre =
                f32(reach * random.uniform(1.15, 1.6)) * direction(right_angle + random.uniform(0.7, 2.2));
            roughen(vessel, random, 2, 3, 0.12);
            great_vessels.push_back(vessel);
        }

    blood = 1.0f;
    myocardium = f32(random.uniform(0.22, 0.45));
    pericardium = f32(random.uniform(0.05, 0.2));
    blood_mottle = f32(random.uniform(0.03, 0.12));
    muscle_mottle = f32(random.uniform(0.05, 0.16));
    softness = f32(random.uniform(1.0, 2.2));
}

// The order of these draws is part of a seed's patient.
void HeartScene::Model::make_torso(Random& random) {
    // The chest wall is near the right ventricle and the anterior wall, the back far away.
    const double chest = right_angle + random.uniform(0.0, 0.9);
    const double size = make_body(random, chest);
    make_abdomen(random);
    make_back(random, chest);
    make_lungs(random);
    make_ribs(random);
    make_signals(random);
    make_coils(random, chest, size);
}

/// Skin, fat and muscle; `chest` is the direction of the chest wall. Returns the mean radius in mm.
double HeartScene::Model::make_body(Random& random, double chest) {
    const double reach = outer.radius;
    fat_thickness = f32(random.uniform(5.0, 20.0));
    fat_variation = f32(random.uniform(0.2, 0.6));
    fat_side = direction(random.uniform(0.0, 2.0 * pi));
    muscle_thickness = f32(random.uniform(8.0, 16.0));
    const Point towards = direction(chest);
    double front = reach + fat_layer;
    if (has_right)
        front = std::max<double>(front, towards.x * right.centre.x + towards.y * right.centre.y +
                                            right.radius * (1.0f + right.spread()) + right_wall +
                                            1.2f * fat_layer + 2.0f);
    const double skin =
        front + fat_thickness * (1.0 + fat_variation * (towards.x * fat_side.x + towards.y * fat_side.y)) +
        muscle_thickness + random.uniform(4.0, 26.0);
    const double size = random.uniform(135.0, 175.0), flat = random.uniform(0.05, 0.22);
    body.radius = f32(size);
    body.set(2, f32(-flat * std::cos(2.0 * chest)), f32(-flat * std::sin(2.0 * chest)));
    for (int k = 3; k <= 5; ++k)
        body.set(k, f32(random.uniform(-0.02, 0.02)), f32(random.uniform(-0.02, 0.02)));
    body.centre = f32(skin - size * (1.0 - flat)) * towards +
                  f32(random.uniform(-20.0, 20.0)) * direction(chest + pi / 2.0);
    return size;
}

/// Liver and stomach, below the diaphragm.
void HeartScene::Model::make_abdomen(Random& random) {
    const double reach = outer.radius;
    // The diaphragm's dome under the inferior wall.
    const double down = pi / 2.0 + random.uniform(-0.35, 0.6);
    has_liver = random.chance(0.8);
    liver.radius = f32(random.uniform(60.0, 110.0));
    liver.centre = f32(reach + random.uniform(1.0, 14.0) + liver.radius) * direction(down);
    roughen(liver, random, 2, 4, 0.03);
    for (int i = random.integer(8, 24); i > 0; --i) {
        const double depth = std::sqrt(random.uniform()) * 0.92, angle = random.uniform(0.0, 2.0 * pi);
        const Point from = liver.centre + f32(liver.radius * depth) * direction(angle);
        const auto value = f32(random.uniform(1.15, 1.9));
        const double run = random.chance(0.5) ? random.uniform(0.0, 16.0) : 0.5,
                     way = random.uniform(0.0, 2.0 * pi);
        add_vessel(liver_vessels, random, from, way, run, random.uniform(0.6, 2.4), value);
    }
    // Organs behind the dome, on the heart's side of it.
    const auto under_dome = [&](Blob& organ, double low, double high) {
        const double angle = down + pi + random.uniform(0.15, 0.9) * (random.chance(0.75) ? 1.0 : -1.0);
        organ.radius = f32(random.uniform(low, high));
        organ.centre = liver.centre + (liver.radius - organ.radius * 1.15f - 3.0f) * direction(angle);
        roughen(organ, random, 2, 4, 0.12);
    };
    has_stomach = random.chance(0.65);
    under_dome(stomach, 16.0, 32.0);
    has_gas = random.chance(0.6);
    gas.radius = stomach.radius * f32(random.uniform(0.4, 0.75));
    gas.centre = stomach.centre + 0.2f * stomach.radius * direction(random.uniform(0.0, 2.0 * pi));
    roughen(gas, random, 2, 5, 0.2);
    has_spleen = random.chance(0.5);
    under_dome(spleen, 12.0, 24.0);
}

/// Spine and aorta.
void HeartScene::Model::make_back(Random& random, double chest) {
    const double reach = outer.radius;
    has_spine = random.chance(0.6);
    stalk = f32(random.uniform(1.3, 2.2));
    bend = f32(random.uniform(2.0, 6.0));
    for (float& amplitude : pad_shape)
        amplitude = f32(random.uniform(-0.06, 0.06));
    // Back: the descending aorta on the far side from the chest wall, the spine behind it.
    const double back = chest + pi + random.uniform(-0.5, 0.5);
    aorta.radius = f32(random.uniform(8.5, 13.5));
    aorta.centre = f32(reach + random.uniform(22.0, 45.0)) * direction(back);
    vertebra.radius = f32(random.uniform(15.0, 21.0));
    vertebra.centre = aorta.centre + f32(vertebra.radius + aorta.radius + random.uniform(0.0, 6.0)) *
                                         direction(back + random.uniform(-0.6, 0.6));
    roughen(vertebra, random, 2, 4, 0.06);
    canal.radius = f32(random.uniform(6.0, 8.0));
    canal.centre = vertebra.centre + f32(vertebra.radius + 5.0) * direction(back);
}

/// Vessels of the lungs.
void HeartScene::Model::make_lungs(Random& random) {
    const double reach = outer.radius;
    for (int i = random.integer(50, 130); i > 0; --i) {
        const double angle = random.uniform(0.0, 2.0 * pi),
                     far = reach + 4.0 + 110.0 * std::sqrt(random.uniform());
        const Point from = f32(far) * direction(angle);
        // Most are cut across, some run within the slice, away from the hilum.
        const double run = random.chance(0.75) ? random.uniform(0.0, 1.5) : random.uniform(3.0, 16.0);
        double width = random.uniform(0.4, 1.0);
        if (random.chance(0.12))
            width += random.uniform(0.3, 1.4);
        const double way = angle + random.normal(0.0, 0.8), u = random.uniform();
        add_vessel(lung_vessels, random, from, way, run, width, f32(0.05 + 0.45 * u * u));
    }
}

void HeartScene::Model::make_ribs(Random& random) {
    for (double angle = 0.0; angle < 2.0 * pi; angle += random.uniform(0.17, 0.4)) {
        const Point along = direction(angle);
        float r, slope;
        body.outline(along.x, along.y, r, slope);
        const float depth = fat_at(along) + f32(random.uniform(0.55, 0.9)) * muscle_thickness;
        const Point middle = body.centre + (r - depth) * along;
        const double tilt = angle + pi / 2.0 + random.uniform(-0.3, 0.3);
        const Point tangent = f32(random.uniform(0.5, 6.0)) * direction(tilt);
        const auto width = f32(random.uniform(2.4, 4.4)), value = f32(random.uniform(0.1, 0.4));
        ribs.push_back({{middle - tangent, middle + tangent, width}, value});
    }
}

/// Signals of the torso's tissues.
void HeartScene::Model::make_signals(Random& random) {
    fat = f32(random.uniform(0.55, 1.0));
    muscle = f32(random.uniform(0.12, 0.24));
    lung = f32(random.uniform(0.015, 0.05));
    liver_signal = f32(random.uniform(0.22, 0.5));
    stomach_signal = f32(random.uniform(0.15, 0.8));
    marrow = f32(random.uniform(0.2, 0.4));
    spleen_signal = f32(random.uniform(0.35, 0.6));
}

/// Receive coils around a body of radius `size` mm.
void HeartScene::Model::make_coils(Random& random, double chest, double size) {
    // One array on the chest, one under the back, some skew.
    const Point array = body.centre + f32(size * 1.1) * direction(chest + random.uniform(-0.4, 0.4));
    const Point rear = body.centre + f32(size * 1.2) * direction(chest + pi + random.uniform(-0.5, 0.5));
    const auto reach_of = [&] {
        const double mm = random.uniform(80.0, 160.0);
        return f32(1.0 / (mm * mm));
    };
    coils.push_back({array, reach_of(), f32(random.uniform(0.8, 1.6))});
    coils.push_back({rear, reach_of(), f32(random.uniform(0.3, 1.0))});
    coils.push_back({{}, 1.0f / (400.0f * 400.0f), f32(random.uniform(0.25, 0.7))});
}

HeartScene::Model::Model(const HeartOptions& settings, Random random)
    : options(settings), fine(random, 0.9f), coarse(random, 0.5f) {
    // Systole takes about 0.3 s at any rate; at high rates filling still needs its half.
    systole = std::clamp(random.uniform(0.27, 0.34) * settings.heart_rate / 60.0, 0.25, 0.5);
    beat_offset = random.uniform();
    breath_offset = random.uniform();
    breath_depth = settings.breathing_rate > 0.0 ? random.uniform(3.0, 11.0) : random.uniform(0.0, 3.0);
    make_heart(random);
    make_torso(random);

    fov = random.uniform(220.0, 330.0);
    // Planes are prescribed along the heart, so it appears at any angle.
    view_turn = direction(random.uniform(0.0, 2.0 * pi));
    mirror = random.chance(0.5);
    view_centre = Point{f32(random.uniform(-18.0, 12.0)), f32(random.uniform(-12.0, 18.0))};

    constexpr int side = 96;
    std::vector<float> preview(static_cast<std::size_t>(side) * side);
    paint(0.0, side, side, fov, fov, preview.data());
    const auto rank = static_cast<std::size_t>(0.999 * static_cast<double>(preview.size()));
    gain = 1.0f / std::max(order_statistic(preview, rank), 1e-3f);
}

void HeartScene::Model::paint_torso(Canvas& canvas, const Moment& now) const {
    const float w = canvas.pixel();
    const auto breath = f32(now.breath);
    Blob skin = body;
    skin.radius += 0.1f * breath;

    // Skin, fat, muscle and the lungs within: one distance, four layers.
    canvas.for_all([&](float& pixel, Point p) {
        const float d = skin.distance(p);
        float value = 0.0f;
        const float inside = edge(d, w);
        if (inside > 0.0f) {
            const Point q = p - skin.centre;
            const float rho = std::max(length(q), 1.0f);
            const float thick = fat_at(1.0f / rho * q);
            const float in_fat = edge(d + 1.6f, w), in_muscle = edge(d + thick, w),
                        in_chest = edge(d + thick + muscle_thickness, w);
            value = 0.35f;
            if (in_chest < 1.0f) {
                const float grain = fine(p), strand = 1.0f - 2.0f * std::abs(coarse(1.7f * p));
                const float septa = std::max(0.0f, 1.0f - 5.0f * std::abs(fine(1.3f * p)));
                value += in_fat * (fat * (0.92f + 0.1f * strand + 0.05f * grain - 0.22f * septa) - value);
                value += in_muscle * (muscle * (1.0f + 0.35f * grain) - value);
                // Fat between the muscle's sheets.
                value += in_muscle * 0.35f * std::max(0.0f, strand - 0.55f) * fat;
            }
            value += in_chest * (lung * (1.0f + 0.5f * fine(p)) - value);
            value *= inside;
        }
        pixel = value;
    });

    for (const Vessel& rib : ribs) {
        const float in_cortex = rib.shape.half_width;
        Capsule marrow_shape = rib.shape;
        marrow_shape.half_width = in_cortex * 0.6f;
        canvas.fill(rib.shape, 1.2f, [&](Point) { return 0.4f * muscle; });
        canvas.fill(marrow_shape, 1.2f, [&](Point p) { return rib.value * (1.0f + 0.2f * fine(p)); });
    }

    // Lung vessels follow the diaphragm and, near the heart, its beat.
    const float beat = f32(now.s);
    for (const Vessel& vessel : lung_vessels) {
        Capsule shape = vessel.shape;
        const float away = length(shape.from);
        const float pull = 3.0f * beat * std::exp(-(away - outer.radius) / 25.0f) / std::max(away, 1.0f);
        const Point shift = Point{0.0f, 0.45f * breath} - pull * shape.from;
        shape.from = shape.from + shift;
        shape.to = shape.to + shift;
        if (chest_distance(skin, shape.from) > -2.0f)
            continue;
        canvas.fill(shape, 0.8f, [&](Point) { return vessel.value; });
    }

    const auto filled = [&](const Blob& blob, float margin, const auto& value) {
        canvas.fill(blob, margin, value);
    };
    // The mediastinum: from the back wall around the spine and the aorta.
    const Point rear = vertebra.centre - aorta.centre;
    const Capsule mediastinum{aorta.centre, vertebra.centre + (90.0f / std::max(length(rear), 1.0f)) * rear,
                              stalk * vertebra.radius};
    canvas.for_each(aorta.centre, length(mediastinum.to - aorta.centre) + mediastinum.half_width + 3.0f,
                    [&](float& pixel, Point p) {
                        const float inside = edge(mediastinum.distance(p), 3.0f);
                        if (inside <= 0.0f)
                            return;
                        const float lean = muscle * (1.2f + 0.4f * fine(p));
                        const float value = lean + 0.5f * fat * std::max(0.0f, coarse(2.0f * p) - 0.2f);
                        pixel += inside * edge(chest_distance(skin, p), w) * (value - pixel);
                    });
    if (has_spine) {
        filled(vertebra.grown(1.5f), 0.0f, [](Point) { return 0.06f; });
        filled(vertebra, 1.0f, [&](Point p) { return marrow * (1.0f + 0.15f * fine(p)); });
        filled(canal, 1.0f, [&](Point p) { return 0.75f + 0.05f * fine(p); });
    }
    Blob pulsing = aorta;
    pulsing.radius *= 1.0f + 0.05f * f32(ease(0.03, 0.2, now.phase) * (1.0 - ease(0.25, 0.9, now.phase)));
    filled(pulsing.grown(1.3f), 0.0f, [&](Point) { return 0.12f; });
    const float flow = f32(1.0 - 0.12 * ease(0.05, 0.15, now.phase) * (1.0 - ease(0.2, 0.4, now.phase)));
    filled(pulsing, 0.0f, [&](Point p) { return blood * flow * (0.93f + 0.04f * fine(p)); });

    const Point sink{-0.1f * breath, breath};
    Blob dome = liver;
    dome.centre = dome.centre + sink;
    canvas.for_each(dome.centre, dome.radius * (1.0f + dome.spread()) + 3.0f, [&](float& pixel, Point p) {
        const float d = dome.distance(p);
        const float in_sheath = edge(d - 1.8f, w), inside = edge(d, std::max(w, 1.0f));
        if (in_sheath <= 0.0f)
            return;
        const Point q = p - sink;
        float value = pixel + in_sheath * (fat * 0.5f - pixel);
        const float filling = has_liver ? liver_signal * (1.0f + 0.10f * fine(q) + 0.06f * coarse(q))
                                        : fat * (0.75f + 0.15f * fine(q) + 0.25f * coarse(1.5f * q));
        value += inside * (filling - value);
        pixel += edge(chest_distance(skin, p), w) * (value - pixel);
    });
    if (has_liver)
        for (const Vessel& vessel : liver_vessels) {
            Capsule shape = vessel.shape;
            shape.from = shape.from + sink;
            shape.to = shape.to + sink;
            if (chest_distance(skin, shape.from) < -4.0f)
                canvas.fill(shape, 1.2f, [&](Point) { return liver_signal * vessel.value; });
        }
    const auto organ = [&](Blob blob, float value, float texture) {
        blob.centre = blob.centre + sink;
        if (chest_distance(skin, blob.centre) > -0.8f * blob.radius)
            return;
        filled(blob.grown(2.2f), 1.0f, [&](Point) { return fat * 0.7f; });
        filled(blob.grown(0.9f), 0.0f, [&](Point) { return 0.1f; });
        filled(blob, 1.0f, [&, value](Point p) {
            const Point q = p - sink;
            return value * (1.0f + texture * coarse(2.0f * q) + 0.5f * texture * fine(q));
        });
    };
    if (has_spleen)
        organ(spleen, spleen_signal, 0.06f);
    if (has_stomach) {
        organ(stomach, stomach_signal, 0.3f);
        Blob bubble = gas;
        bubble.centre = bubble.centre + sink;
        if (has_gas && chest_distance(skin, stomach.centre + sink) <= -0.8f * stomach.radius)
            filled(bubble, 1.5f, [](Point) { return 0.02f; });
    }
}

void HeartScene::Model::paint_heart(Canvas& canvas, const Moment& now) const {
    const float w = canvas.pixel();
    const auto s = f32(now.s);
    const auto fatty = [&](Point p) { return fat * (0.85f + 0.12f * coarse(1.5f * (p - now.heart))); };
    const auto sheath = [&](Point) { return pericardium; };

    const auto both = [&](float margin, float soft, const auto& value) {
        if (has_right)
            canvas.fill(now.right_outer.grown(margin), soft, value);
        canvas.fill(now.outer.grown(margin), soft, value);
    };
    // Fat around the pericardium, thickest on the right ventricle's side; the pericardium; fat within it.
    Blob pad = has_right ? now.right_outer.grown(1.2f * fat_layer + 2.0f) : now.outer.grown(fat_layer);
    for (std::size_t i = 0; i < pad_shape.size() / 2; ++i)
        pad.set(static_cast<int>(i + 2), pad.a[i + 2] + pad_shape[2 * i],
                pad.b[i + 2] + pad_shape[2 * i + 1]);
    canvas.fill(pad, 1.0f, fatty);
    canvas.fill(now.outer.grown(0.45f * fat_layer + 1.2f), 1.0f, fatty);
    both(0.35f * fat_layer + 1.1f, 0.0f, sheath);
    both(0.35f * fat_layer, 0.0f, fatty);
    both(0.6f, 0.0f, sheath); // water and fat cancel where they share a pixel

    // Blood drifts, and comes back with the beat.
    const Point drift = 5.0f * direction(2.0 * pi * now.phase);
    const float jet = f32(ease(systole, systole + 0.1, now.phase) *
                          (1.0 - ease(systole + 0.12, systole + 0.35, now.phase)));
    const auto blood_at = [&](Point p) {
        const Point q = p - now.heart;
        return blood * (0.93f + blood_mottle * coarse(1.3f * (q + drift)));
    };
    // The muscle's texture is carried along: turned with the twist, stretched with the wall.
    const float stretch = outer.radius / now.outer.radius;
    const auto muscle_at = [&](Point p) {
        const Point q = p - now.heart;
        const Point m =
            stretch * Point{now.turn.x * q.x + now.turn.y * q.y, now.turn.x * q.y - now.turn.y * q.x};
        return myocardium * (1.0f + muscle_mottle * fine(m) + 0.5f * muscle_mottle * coarse(m));
    };

    for (Blob vessel : great_vessels) {
        vessel.centre = vessel.centre + now.heart;
        vessel.radius *= 1.0f + 0.08f * s;
        canvas.fill(vessel.grown(2.0f), 0.0f, muscle_at);
        canvas.fill(vessel, softness, blood_at);
    }
    if (has_right) {
        canvas.fill(now.right_outer, 0.0f, muscle_at);
        canvas.fill(now.right, softness, blood_at);
        for (const Point& at : right_trabeculae) {
            const Point foot = now.right.centre + now.right.radius * at;
            const Capsule strand{foot, foot - (0.04f + 0.06f * s) * now.right.radius * at, 1.0f + 0.7f * s};
            canvas.fill(strand, 1.3f * softness, muscle_at);
        }
    }
    canvas.fill(now.outer, 0.8f, muscle_at);
    // Dark inflow in early filling where blood dephases.
    const Point inflow = now.heart + 0.25f * now.cavity.radius * direction(right_angle + 1.5);
    const float jet_size = 1.0f / (0.09f * now.cavity.radius * now.cavity.radius);
    canvas.fill(now.cavity, std::max(w, softness), [&](Point p) {
        const Point q = p - inflow;
        const float r2 = (q.x * q.x + q.y * q.y) * jet_size;
        const float dark =
            jet > 0.0f && r2 < 9.0f ? 0.25f * jet * (1.0f - r2 / 9.0f) * (1.0f - r2 / 9.0f) : 0.0f;
        return blood_at(p) * (1.0f - dark);
    });
    for (const Papillary& p : papillaries) {
        const Point along = direction(right_angle + p.angle + twist * now.s);
        float r, slope;
        now.cavity.outline(along.x, along.y, r, slope);
        Blob blob;
        blob.radius = p.radius * (1.0f + 0.12f * s);
        // Against the wall at end systole, a little away from it when the cavity is wide.
        const float place = std::max(r * f32(p.depth), r - 1.6f * blob.radius);
        blob.centre = now.heart + place * along;
        const float c2 = along.x * along.x - along.y * along.y, s2 = 2.0f * along.x * along.y;
        blob.set(2, p.elongation * c2, p.elongation * s2);
        canvas.fill(blob, softness, muscle_at);
    }
}

void HeartScene::Model::paint(double time, int width, int height, double fov_x, double fov_y,
                              float* pixels) const {
    Canvas target = canvas(width, height, fov_x, fov_y, pixels);
    target.bend(1.5f * bend, [&](Point p) { return bent(p); });
    const Moment now = at(time);
    paint_torso(target, now);
    paint_heart(target, now);
    target.for_all([&](float& pixel, Point p) {
        float shading = 0.0f;
        for (const Coil& coil : coils) {
            const Point q = p - coil.at;
            shading += coil.gain / (1.0f + (q.x * q.x + q.y * q.y) * coil.inverse_square_reach);
        }
        pixel = std::clamp(pixel * shading * gain, 0.0f, gain == 1.0f ? 1e6f : 1.0f);
    });
}

namespace {

void check_view(int width, int height, double fov_x, double fov_y) {
    constexpr int largest = 16384;
    if (width < 1 || height < 1 || width > largest || height > largest)
        throw Error(Errc::settings, "A scene cannot be rendered into " + std::to_string(width) + "x" +
                                        std::to_string(height) + " pixels");
    if (!(fov_x > 0.0) || !(fov_y > 0.0) || !std::isfinite(fov_x) || !std::isfinite(fov_y))
        throw Error(Errc::settings, "A scene needs a field of view larger than 0 mm");
}

void check_rate(double rate, const char* name) {
    if (!std::isfinite(rate) || rate < 0.0 || rate > 600.0)
        throw Error(Errc::settings, std::string("The ") + name + " rate must be between 0 and 600 a minute");
}

} // namespace

HeartScene::HeartScene(const HeartOptions& options) {
    check_rate(options.heart_rate, "heart");
    check_rate(options.breathing_rate, "breathing");
    model_ = std::make_unique<const Model>(options);
}

HeartScene::~HeartScene() = default;
HeartScene::HeartScene(HeartScene&&) noexcept = default;
HeartScene& HeartScene::operator=(HeartScene&&) noexcept = default;

double HeartScene::natural_fov() const {
    return model_->fov;
}

void HeartScene::render(double time, int width, int height, double fov_x, double fov_y, float* pixels) const {
    check_view(width, height, fov_x, fov_y);
    model_->paint(time, width, height, fov_x, fov_y, pixels);
}

void HeartScene::render_ventricle(double time, int width, int height, double fov_x, double fov_y,
                                  float* pixels) const {
    check_view(width, height, fov_x, fov_y);
    std::fill(pixels, pixels + static_cast<std::size_t>(width) * static_cast<std::size_t>(height), 0.0f);
    Canvas target = model_->canvas(width, height, fov_x, fov_y, pixels);
    target.fill(model_->at(time).cavity, model_->softness, [](Point) { return 1.0f; });
}

double HeartScene::ventricle_area(double time) const {
    return model_->left_area(model_->contraction(model_->beat(time)));
}

} // namespace mri

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/export/nifti_writer.hpp"

#include "plugins/math/base/atomic_file.hpp"
#include "plugins/math/base/error.hpp"

#include <fmt/format.h>
#include <nifti/nifti2_io.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>

namespace mri {

namespace {

/// An output of niftilib's, plain or compressed.
class Output {
  public:
    Output(const std::string& path, bool compressed, std::string failed)
        : file_(znzopen(path.c_str(), "wb", compressed ? 1 : 0)), failed_(std::move(failed)) {
        if (znz_isnull(file_))
            throw Error(Errc::open_write, failed_ + reason());
    }
    ~Output() {
        if (!znz_isnull(file_))
            znzclose(file_);
    }
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;

    void write(const void* bytes, std::size_t size) {
        errno = 0;
        if (znzwrite(bytes, 1, size, file_) != size)
            throw Error(Errc::write, failed_ + reason());
    }
    void close() {
        errno = 0;
        if (znzclose(file_) != 0)
            throw Error(Errc::write, failed_ + reason());
    }

  private:
    /// The system's, where it has one.
    static std::string reason() { return errno == 0 ? "" : std::string(": ") + std::strerror(errno); }

    znzFile file_;
    std::string failed_;
};

/// Text in a fixed field of the header, which ends in a zero.
template <std::size_t n>
void put_text(char (&field)[n], const std::string& text) {
    std::memset(field, 0, n);
    std::memcpy(field, text.data(), std::min(text.size(), n - 1));
}

bool ends_with(const std::string& text, const std::string& end) {
    return text.size() > end.size() && text.ends_with(end);
}

} // namespace

bool is_nifti_name(const std::string& name) {
    return ends_with(name, ".nii") || ends_with(name, ".nii.gz");
}

std::string nifti_name(const std::string& location, std::size_t index) {
    if (index == 0)
        return location;
    const std::size_t end = location.size() - (ends_with(location, ".gz") ? 7 : 4);
    return fmt::format("{}-{}{}", location.substr(0, end), index + 1, location.substr(end));
}

std::array<std::array<double, 4>, 3> nifti_affine(const ImagePlane& first, double spacing_z) {
    const Vector3 normal = first.normal();
    std::array<std::array<double, 4>, 3> affine{};
    for (std::size_t i = 0; i < 3; ++i) {
        const double sign = i < 2 ? -1 : 1; // LPS to RAS
        affine[i] = {sign * first.row[i] * first.spacing_x, sign * first.column[i] * first.spacing_y,
                     sign * normal[i] * spacing_z, sign * first.first_voxel[i]};
    }
    return affine;
}

void write_nifti(const std::string& path, const Stack& stack, const Collected& collected) {
    const ExportedImage& first = collected.images[stack.slices.front().images.front()];
    const ImagePlane& plane = first.plane;
    const std::size_t slices = stack.slices.size(), times = stack.slices.front().images.size();
    if (slices > 32767 || times > 32767)
        throw Error(Errc::unsupported,
                    fmt::format("'{}' cannot hold {} slices of {} images: NIfTI-1 counts to 32767", path,
                                slices, times));
    const double spacing = even_spacing(stack).value_or(plane.thickness > 0 ? plane.thickness : 1.0);
    const double step = time_step(stack.slices.front(), collected.images).mean;
    const auto affine = nifti_affine(plane, spacing);

    nifti_1_header header{};
    header.sizeof_hdr = sizeof header;
    header.regular = 'r';
    const std::size_t sizes[] = {static_cast<std::size_t>(plane.width),
                                 static_cast<std::size_t>(plane.height), slices, times};
    header.dim[0] = times > 1 ? 4 : 3;
    std::fill(header.dim + 1, header.dim + 8, std::int16_t{1});
    std::fill(header.pixdim, header.pixdim + 8, 1.0F);
    for (std::size_t i = 0; i < 4; ++i)
        header.dim[i + 1] = static_cast<std::int16_t>(sizes[i]);
    header.pixdim[1] = static_cast<float>(plane.spacing_x);
    header.pixdim[2] = static_cast<float>(plane.spacing_y);
    header.pixdim[3] = static_cast<float>(spacing);
    header.pixdim[4] = static_cast<float>(step);
    header.datatype = NIFTI_TYPE_FLOAT32;
    header.bitpix = 32;
    header.scl_slope = 1;
    header.xyzt_units = SPACE_TIME_TO_XYZT(NIFTI_UNITS_MM, NIFTI_UNITS_SEC);
    header.qform_code = header.sform_code = NIFTI_XFORM_SCANNER_ANAT;
    put_text(header.descrip, short_provenance());
    put_text(header.intent_name, to_string(collected.part));
    std::memcpy(header.magic, "n+1", 4);

    nifti_dmat44 matrix{};
    for (std::size_t i = 0; i < 3; ++i)
        std::copy(affine[i].begin(), affine[i].end(), matrix.m[i]);
    matrix.m[3][3] = 1;
    double b = 0, c = 0, d = 0, x = 0, y = 0, z = 0, dx = 0, dy = 0, dz = 0, handed = 1;
    nifti_dmat44_to_quatern(matrix, &b, &c, &d, &x, &y, &z, &dx, &dy, &dz, &handed);
    header.pixdim[0] = static_cast<float>(handed);
    header.quatern_b = static_cast<float>(b);
    header.quatern_c = static_cast<float>(c);
    header.quatern_d = static_cast<float>(d);
    header.qoffset_x = static_cast<float>(x);
    header.qoffset_y = static_cast<float>(y);
    header.qoffset_z = static_cast<float>(z);
    float* const rows[] = {header.srow_x, header.srow_y, header.srow_z};
    for (std::size_t i = 0; i < 3; ++i)
        std::transform(affine[i].begin(), affine[i].end(), rows[i],
                       [](double value) { return static_cast<float>(value); });

    // The whole sentence, which descrip has no room for when it is long, as a comment (code 6); its size with
    // the eight bytes in front is a multiple of 16.
    std::string comment = collected.provenance;
    comment.resize((comment.size() + 1 + 8 + 15) / 16 * 16 - 8, '\0');
    const std::int32_t extension[] = {static_cast<std::int32_t>(comment.size() + 8), NIFTI_ECODE_COMMENT};
    const char extended[] = {1, 0, 0, 0};
    header.vox_offset =
        static_cast<float>(sizeof header + sizeof extended + sizeof extension + comment.size());

    const std::string failed = "'" + path + "' cannot be written";
    AtomicFile target(path, failed);
    Output file(target.temporary().string(), ends_with(path, ".gz"), failed);
    file.write(&header, sizeof header);
    file.write(extended, sizeof extended);
    file.write(extension, sizeof extension);
    file.write(comment.data(), comment.size());
    for (std::size_t t = 0; t < times; ++t)
        for (const Slice& slice : stack.slices) {
            const auto pixels = collected.spool->read(collected.images[slice.images[t]].pixels);
            file.write(pixels.data(), pixels.size() * sizeof(float));
        }
    file.close();
    target.commit(failed);
}

} // namespace mri
